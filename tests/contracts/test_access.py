"""A defense sees what it declares; the selection rule is one and the same for all."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contracts import Defended, Examples, Inputs, Needs, Precision, Predictions, selection
from bench.contracts.access import Access
from bench.errors import UndeclaredAccess
from tests.fakes import FACTS, FakeClassifier, examples

FIELDS = {
    "clean": Needs.CLEAN,
    "halves": Needs.CLEAN,
    "pretrained": Needs.PRETRAINED,
    "training_set": Needs.TRAINING_SET,
    "unlabelled": Needs.UNLABELLED,
    "test_stream": Needs.TEST_STREAM,
    "other_models": Needs.OTHER_MODELS,
    "target": Needs.TARGET,
    "oracle": Needs.ORACLE,
}


def access(needs: frozenset[Needs], **changes: Any) -> Access:
    rows = examples(100)
    providers = {name: (lambda: rows) for name in FIELDS if name != "halves"}
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


def right_on(share: float, seed: int = 7) -> FakeClassifier:
    """Return a model that answers about this share of the 100 examples right; a larger share is right on more."""
    gold = examples(100)
    order = np.random.default_rng(seed).permutation(100)
    right = {gold.inputs.texts[i] for i in order[: round(share * 100)]}
    by_text = dict(zip(gold.inputs.texts, gold.labels, strict=True))
    return FakeClassifier(lambda text: int(by_text[text]) if text in right else 1 - int(by_text[text]))


def answered(model: FakeClassifier) -> Any:
    """Return which of the 100 examples a model answers right."""
    gold = examples(100)
    return model.logits(gold.inputs).argmax(1) == gold.labels


@given(st.lists(st.floats(0, 1), min_size=21, max_size=21).map(sorted), st.floats(0.3, 1), st.floats(0, 20))
@settings(max_examples=60)
def test_bisection_chooses_what_a_full_scan_would(shares: list[float], victim: float, tolerance: float) -> None:
    values = [step / 20 for step in range(21)]
    opened = access(frozenset({Needs.CLEAN}), victim=right_on(victim), tolerance=tolerance)
    built: list[float] = []

    def build(value: float, labels: Examples) -> Defended:
        built.append(value)
        return Defended(right_on(shares[values.index(value)]))

    choice = opened.choose(values, build)
    drops = [round(100 * shares[-1]) - round(100 * share) for share in shares]
    passing = [value for value, drop in zip(values, drops, strict=True) if drop <= tolerance + 1e-9]
    assert (choice.value, choice.passed) == (passing[0], True)
    assert len(set(built)) <= 6 and len(built) == 2 * len(choice.tried) + 1, "two halves each, and once on all labels"


def test_no_label_is_answered_by_a_model_that_has_seen_it() -> None:
    class Learner(FakeClassifier):
        def __init__(self, known: Examples) -> None:
            self.known = set(known.inputs.texts)
            super().__init__(lambda text: 0)

        def logits(self, inputs: Inputs) -> np.ndarray:
            assert len(self.known) == 100 or not self.known & set(inputs.texts)
            return super().logits(inputs)

    seen: list[Examples] = []

    def build(value: float, labels: Examples) -> Defended:
        seen.append(labels)
        return Defended(Learner(labels))

    opened = access(frozenset({Needs.CLEAN}))
    opened.choose([0.0, 1.0], build)
    assert [len(labels) for labels in seen] == [50, 50] * 2 + [100]
    for labels in seen:
        assert abs(labels.labels.mean() - opened.clean.labels.mean()) < 0.03, "each half has the proportions of all"


def test_what_learns_nothing_is_built_once_and_answers_all_labels() -> None:
    built: list[int] = []

    def build(value: float, labels: Examples) -> Defended:
        built.append(len(labels))
        return Defended(right_on(value))

    opened = access(frozenset({Needs.CLEAN}), victim=right_on(0.9), tolerance=5.0)
    choice = opened.choose([0.5, 0.8, 0.86], build, trains=False)
    assert (choice.value, choice.passed, choice.reference) == (0.86, True, "victim")
    assert set(built) == {100}


def test_what_halves_of_the_labels_cost_at_any_value_is_not_held_against_a_value() -> None:
    opened = access(frozenset({Needs.CLEAN}), victim=right_on(1.0), tolerance=5.0)
    choice = opened.choose([0.0, 0.5, 1.0], lambda value, labels: Defended(right_on(0.7 + 0.2 * min(value, 0.5) * 2)))
    assert (choice.value, choice.passed, choice.reference) == (0.5, True, "largest value")
    assert choice.drops.measured.tolist() == pytest.approx([20, 0, 0]), "against the victim all lose 10 points more"


def test_a_method_that_passes_nowhere_says_so() -> None:
    opened = access(frozenset({Needs.CLEAN}), victim=right_on(1.0), tolerance=5.0)
    choice = opened.choose([0.0, 1.0], lambda value, labels: Defended(right_on(0.7)), trains=False)
    assert (choice.value, choice.passed) == (1.0, False)


def test_notes_hold_what_another_rule_would_need() -> None:
    opened = access(frozenset({Needs.CLEAN}), victim=right_on(0.9), tolerance=5.0)
    notes = opened.choose([0.2, 0.7, 0.95], lambda value, labels: Defended(right_on(value))).notes()
    assert json.loads(json.dumps(notes)) == notes
    first = notes["tried"][0]
    right = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(first["right"])), np.uint8))[:100]
    assert 100 * right.mean() == pytest.approx(first["selection_acc"]) == pytest.approx(100 * first["value"])
    assert first["drop"] == pytest.approx(95 - 100 * first["value"])
    victim = np.frombuffer(zlib.decompress(base64.b64decode(notes["selection_victim"])), "<f2")
    assert victim.shape == (100,) and victim.mean() == pytest.approx(0.9, abs=1e-3)
    confidence = np.frombuffer(zlib.decompress(base64.b64decode(first["confidence"])), "<f2")
    assert confidence.shape == (100,) and ((confidence > 0.5) == right.astype(bool)).all()


def test_noise_cannot_make_a_small_value_lucky() -> None:
    """The fitted drop of a value is at least that of any larger one: luck is shared with its neighbours."""
    lucky = {0.1: 0.97, 0.5: 0.7, 0.9: 0.97}
    tried = [selection.Candidate(v, answered(right_on(s)), np.zeros(100, np.float16)) for v, s in lucky.items()]
    drops = selection.drops(answered(right_on(1.0)), tried)
    assert drops.measured.tolist() == pytest.approx([3, 30, 3])
    assert drops.fitted.tolist() == pytest.approx([16.5, 16.5, 3])


def test_rejected_labels_count_as_wrong() -> None:
    class Refuser(Defended):
        def predict(self, inputs: Any) -> Predictions:
            predicted = super().predict(inputs)
            return Predictions(predicted.labels, predicted.probabilities, np.ones(len(inputs), dtype=bool))

    refuse = access(frozenset({Needs.CLEAN}))
    choice = refuse.choose([0.5], lambda value, labels: Refuser(right_on(1.0)), trains=False)
    assert not choice.passed and not choice.tried[0].right.any()
