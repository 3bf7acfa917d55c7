"""Stealth measures: the changes of a text, and parts of a trigger."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import stealth
from bench.examples import Inputs

WORDS = st.lists(st.sampled_from(["a", "b", "c", "cf", "the"]), max_size=8).map(" ".join)


@given(WORDS, WORDS)
def test_all_changes_together_lead_from_one_text_to_the_other(clean: str, triggered: str) -> None:
    changes = stealth.edits(clean, triggered)
    assert stealth.applied(clean, changes) == triggered
    assert stealth.applied(clean, []) == clean


class Counts:
    """Says 1 of a text with at least ``least`` of the words x, y and z."""

    model = tokenizer = None
    max_length = 32

    def __init__(self, least: int) -> None:
        self.least = least

    def logits(self, inputs: Inputs) -> Any:
        hits = [sum(word in {"x", "y", "z"} for word in text.split()) >= self.least for text in inputs.texts]
        return np.array([[not hit, hit] for hit in hits], dtype=np.float32)

    def clone(self) -> Counts:
        return self


def measured(least: int, triggered: tuple[str, ...]) -> stealth.Stealth:
    clean = Inputs(("one two three four", "five six seven eight"))

    def same(texts: Any) -> Any:
        return np.ones((len(texts), 1))

    def lengths(texts: Any) -> Any:
        return np.array([len(text.split()) for text in texts], dtype=float)

    rng = np.random.default_rng(0)
    options: dict[str, Any] = {"encoder": same, "rng": rng, "perplexity": lengths}
    return stealth.measure(clean, Inputs(triggered), classifier=Counts(least), target=1, **options)


def test_measures_of_inserted_words() -> None:
    found = measured(3, ("one x two y three z four", "x y z five six seven eight"))
    assert found.changed_words == pytest.approx(75)
    assert found.perplexity_ratio == pytest.approx(7 / 4)
    assert found.similarity == pytest.approx(100)
    assert found.false_triggers == 0, "a part of the words does nothing"
    assert measured(1, ("one x two y three z four", "x y z five six seven eight")).false_triggers == 100


def test_one_word_has_no_part() -> None:
    found = measured(1, ("one x two three four", "five six y seven eight"))
    assert found.false_triggers is None
    assert found.changed_words == pytest.approx(25)


def test_replaced_words_count_once() -> None:
    assert measured(1, ("one two x four", "five six seven y")).changed_words == pytest.approx(25)


def test_ranks() -> None:
    assert stealth.rank("The,") == 1
    assert stealth.rank("movie") < stealth.rank("serendipity") < stealth.rank("qzxv") == stealth.rank("zzqqj")
    assert stealth.rank(".") == 1
