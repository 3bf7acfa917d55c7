"""A defense sees what it declares; the selection rule is one and the same for all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.contracts import Defended, Needs, Precision
from bench.contracts.access import Access
from bench.errors import UndeclaredAccess
from tests.fakes import FACTS, FakeClassifier, examples

FIELDS = {
    "clean": Needs.CLEAN,
    "selection": Needs.CLEAN,
    "pretrained": Needs.PRETRAINED,
    "training_set": Needs.TRAINING_SET,
    "unlabelled": Needs.UNLABELLED,
    "test_stream": Needs.TEST_STREAM,
    "other_models": Needs.OTHER_MODELS,
    "oracle": Needs.ORACLE,
}


def access(needs: frozenset[Needs], **changes: Any) -> Access:
    rows = examples(100)
    providers = {name: (lambda: rows) for name in FIELDS}
    given = {"victim": FakeClassifier(lambda text: int("well" in text)), "tolerance": 2.0} | changes
    return Access(facts=FACTS, needs=needs, seed=0, precision=Precision.FP32, providers=providers, **given)


@given(st.sets(st.sampled_from(list(Needs))))
def test_only_declared_things_are_handed_over(needs: set[Needs]) -> None:
    opened = access(frozenset(needs))
    for name, need in FIELDS.items():
        if need in needs:
            assert getattr(opened, name) is not None
        else:
            with pytest.raises(UndeclaredAccess, match=f"Needs.{need.upper()}"):
                getattr(opened, name)


def test_a_new_classifier_needs_the_pretrained_weights() -> None:
    with pytest.raises(UndeclaredAccess, match="Needs.PRETRAINED"):
        access(frozenset({Needs.TRAINING_SET})).untrained()


def test_smallest_passing_is_what_a_full_scan_would_choose() -> None:
    gold = examples(100)
    by_text = dict(zip(gold.inputs.texts, gold.labels, strict=True))

    def model(share: float) -> FakeClassifier:
        right = set(gold.inputs.texts[: int(share * 100)])
        return FakeClassifier(lambda text: int(by_text[text]) if text in right else 1 - int(by_text[text]))

    shares = {0.1: 0.5, 0.2: 0.84, 0.3: 0.93, 0.4: 0.86, 0.5: 0.99}
    opened = access(frozenset({Needs.CLEAN}), victim=model(0.9), tolerance=5.0)
    built = []

    def build(value: float) -> Defended:
        built.append(value)
        return Defended(model(shares[value]))

    choice = opened.smallest_passing(shares, build)
    passing = [value for value in sorted(shares) if opened.accuracy(Defended(model(shares[value]))) >= 85]
    assert choice.value == passing[0] == 0.3
    assert built == [0.1, 0.2, 0.3]
    assert choice.passed
    assert choice.notes()["tried"][1] == {"value": 0.2, "selection_acc": pytest.approx(84)}


def test_where_nothing_passes_the_most_accurate_is_taken_and_said() -> None:
    opened = access(frozenset({Needs.CLEAN}), tolerance=0.0)
    gold = examples(100)
    worse = FakeClassifier(lambda text: 0)
    floor = opened.accuracy(FakeClassifier(lambda text: int("well" in text)))
    if opened.accuracy(worse) >= floor:
        pytest.skip("the sample favours the constant answer")
    choice = opened.smallest_passing([0.5, 0.1], lambda value: Defended(worse))
    assert (choice.value, choice.passed) == (0.1, False)
    assert len(choice.tried) == 2
    assert len(gold) == 100


def test_rejected_selection_examples_count_as_wrong() -> None:
    import numpy as np

    from bench.contracts import Predictions

    class Refuser(Defended):
        def predict(self, inputs: Any) -> Predictions:
            found = super().predict(inputs)
            return Predictions(found.labels, found.probabilities, np.ones(len(inputs), dtype=bool))

    assert access(frozenset({Needs.CLEAN})).accuracy(Refuser(FakeClassifier())) == 0
