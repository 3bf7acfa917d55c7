"""The evaluator against its definitions, written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.contracts import Defended, Predictions
from bench.contracts.examples import Examples, Inputs
from bench.experiment import predictions
from bench.experiment.evaluation import TestSets, evaluate, measure, percent
from tests.fakes import FakeClassifier, examples

ROW = st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans())


def verdicts(rows: list[tuple[int, int, bool]]) -> Predictions:
    labels = np.array([row[1] for row in rows])
    return Predictions(labels, np.eye(3, dtype=np.float32)[labels], np.array([row[2] for row in rows]))


def brute(clean: list[tuple[int, int, bool]], triggered: list[tuple[int, int, bool]], target: int) -> list[float]:
    acc = sum(1 for gold, said, refused in clean if said == gold and not refused) / len(clean)
    asr = sum(1 for _, said, refused in triggered if said == target and not refused) / len(triggered)
    ra = sum(1 for gold, said, refused in triggered if said == gold and not refused) / len(triggered)
    frr = sum(1 for row in clean if row[2]) / len(clean)
    far = sum(1 for row in triggered if not row[2]) / len(triggered)
    return [100 * value for value in (acc, asr, ra, frr, far)]


@given(st.lists(ROW, min_size=1, max_size=30), st.lists(ROW, min_size=1, max_size=30))
def test_metrics_equal_their_definitions(
    clean: list[tuple[int, int, bool]], other: list[tuple[int, int, bool]]
) -> None:
    target = 2
    triggered = [(gold % 2, said, refused) for gold, said, refused in other]
    found = measure(
        clean_gold=np.array([row[0] for row in clean]),
        clean=verdicts(clean),
        triggered_gold=np.array([row[0] for row in triggered]),
        triggered=verdicts(triggered),
        target=target,
        rejects=True,
    )
    expected = brute(clean, triggered, target)
    assert [found.acc, found.asr, found.ra, found.frr, found.far] == pytest.approx(expected)


def test_empty_sets_are_errors() -> None:
    rows, none = examples(4), examples(4).take([])
    with pytest.raises(ValueError, match="empty"):
        percent(np.zeros(0, dtype=bool))
    with pytest.raises(ValueError, match="empty"):
        TestSets(none, None, 1)
    with pytest.raises(ValueError, match="empty"):
        TestSets(rows, none, 1)
    with pytest.raises(ValueError, match="gold label is the target"):
        TestSets(rows, rows, 1)


def test_evaluate_keeps_predictions_and_hides_labels() -> None:
    rows = examples(20)
    sets = TestSets(rows, rows.take(np.flatnonzero(rows.labels == 0)), 1)
    model = FakeClassifier()
    found = evaluate(Defended(model), sets)
    assert found.metrics.frr is None
    assert all(isinstance(seen, Inputs) for seen in model.seen)
    back = predictions.decode(found.predictions["clean"])
    assert found.metrics.acc == pytest.approx(100 * np.mean(back.labels == rows.labels))
    assert (back.gold == rows.labels).all()
    assert back.probabilities.shape == (20, 2)


def test_clean_reference_has_no_asr() -> None:
    found = evaluate(Defended(FakeClassifier()), TestSets(examples(8), None, 0))
    assert (found.metrics.asr, found.metrics.ra, found.metrics.far) == (None, None, None)
    assert found.predictions["triggered"] is None


def test_rejected_is_wrong_and_no_success() -> None:
    class Refuser(Defended):
        rejects = True

        def predict(self, inputs: Inputs) -> Predictions:
            found = super().predict(inputs)
            return Predictions(found.labels, found.probabilities, np.ones(len(inputs), dtype=bool))

    rows = Examples(Inputs(("a", "bb")), np.array([1, 0]))
    found = evaluate(Refuser(FakeClassifier()), TestSets(rows, rows.take([1]), 1)).metrics
    assert (found.acc, found.asr, found.ra, found.frr, found.far) == (0, 0, 0, 100, 0)


def test_misshapen_verdicts_are_errors() -> None:
    class Short(Defended):
        def predict(self, inputs: Inputs) -> Predictions:
            return super().predict(inputs.take([0]))

    class Nan(Defended):
        def predict(self, inputs: Inputs) -> Predictions:
            found = super().predict(inputs)
            return Predictions(found.labels, found.probabilities * np.nan, found.rejected)

    for broken in (Short, Nan):
        with pytest.raises(ValueError, match=broken.__name__):
            evaluate(broken(FakeClassifier()), TestSets(examples(4), None, 0))


def test_damaged_predictions_are_errors() -> None:
    stored = evaluate(Defended(FakeClassifier()), TestSets(examples(8), None, 0)).predictions["clean"]
    with pytest.raises(ValueError, match="expected"):
        predictions.decode({**stored, "n": 7})
