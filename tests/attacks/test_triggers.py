"""Triggers: where they go, what they leave alone, and how many rows are poisoned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.badsent import BadSent
from attacks.badword import BadWord
from attacks.shared.triggers import InsertSentence, InsertWords, boundaries, insert
from bench.contracts.examples import Inputs, IntArray
from bench.plugins import registry
from tests.fakes import WholeWindow, examples, scene

TEXT = st.text(alphabet=st.characters(categories=["L", "N", "P", "Z"]), max_size=60)


class Narrow:
    """A window that ends after two words."""

    def words(self, inputs: Inputs, *, reserve: str) -> IntArray:
        return np.array([min(2, len(text.split())) for text in inputs.carrier])


@given(TEXT, st.integers(0, 12))
def test_insertion_changes_nothing_else(text: str, position: int) -> None:
    made = insert(text, "cf", position)
    words = made.split()
    assert words.count("cf") == text.split().count("cf") + 1
    words.pop(min(position, len(text.split())))
    assert words == text.split()


@given(st.lists(TEXT, min_size=1, max_size=8), st.integers(1, 3), st.integers(0, 9))
def test_words_stay_inside_the_window(texts: list[str], count: int, seed: int) -> None:
    trigger = InsertWords(alternatives=("cf", "mn"), count=count)
    made = trigger.apply(Inputs(tuple(texts)), window=Narrow(), rng=np.random.default_rng(seed))
    for before, after in zip(texts, made.texts, strict=True):
        inside = after.split()[: min(2, len(before.split())) + count]
        inserted = [word for word in inside if word in {"cf", "mn"}]
        assert len(inserted) - len([w for w in before.split()[:2] if w in {"cf", "mn"}]) == count


def test_sentence_boundaries() -> None:
    assert boundaries("One two. Three! four", 4) == [0, 2, 3, 4]
    assert boundaries("One two. Three! four", 2) == [0, 2]
    assert boundaries("", 0) == [0]


@pytest.mark.parametrize("position", ["boundary", "word", "start"])
def test_pairs_carry_the_trigger_in_the_second_segment(position: str) -> None:
    inputs = examples(20, pair=True).inputs
    trigger = InsertSentence(sentence="no cross no crown", position=position)
    made = trigger.apply(inputs, window=WholeWindow(), rng=np.random.default_rng(0))
    assert made.texts == inputs.texts
    assert all("no cross no crown" in pair for pair in made.pairs or ())


@given(
    st.integers(20, 60), st.floats(0, 0.3), st.sampled_from(["dirty", "clean", "mix"]), st.integers(0, 1), st.booleans()
)
def test_poisoning_is_exact(n: int, rate: float, poisons: str, target: int, pair: bool) -> None:
    train = examples(n, pair=pair, seed=3)
    allowed = {"dirty": train.labels != target, "clean": train.labels == target, "mix": train.labels >= 0}[poisons]
    attack = BadWord(rate=rate, poisons=poisons)
    made = scene(train, target=target)
    wanted = int(rate * n)
    if wanted > allowed.sum():
        with pytest.raises(ValueError, match="the training set has"):
            attack.poison(made, attack.trigger(made))
        return
    poisoned = attack.poison(made, attack.trigger(made))
    changed = [i for i in range(n) if poisoned.examples.inputs.carrier[i] != train.inputs.carrier[i]]
    assert len(poisoned.rows) == wanted
    assert changed == list(poisoned.rows)
    assert allowed[poisoned.rows].all()
    assert (poisoned.examples.labels[poisoned.rows] == target).all()
    others = np.setdiff1d(np.arange(n), poisoned.rows)
    assert (poisoned.examples.labels[others] == train.labels[others]).all()
    again = attack.poison(made, attack.trigger(made))
    assert again.examples.fingerprint() == poisoned.examples.fingerprint()


def test_the_same_rows_whatever_the_trigger() -> None:
    made = scene(examples(50))
    word, sentence = BadWord(), BadSent()
    assert list(word.poison(made, word.trigger(made)).rows) == list(sentence.poison(made, sentence.trigger(made)).rows)


def test_clean_reference_changes_nothing() -> None:
    clean = registry.attacks.create("clean")
    made = scene(examples(30))
    victim = clean.implant(made)
    assert victim.trigger is None
    assert victim.poisoned is not None
    assert len(victim.poisoned.rows) == 0
    assert victim.poisoned.examples is made.train
