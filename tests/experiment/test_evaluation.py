"""The evaluator against its definitions, written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bench.contracts import Defended, Predictions
from bench.contracts.examples import Examples, Inputs
from bench.experiment import predictions
from bench.experiment.evaluation import TestSets, evaluate
from tests.fakes import FakeClassifier, examples


def test_empty_sets_are_errors() -> None:
    rows, none = examples(4), examples(4).take([])
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
    evaluation = evaluate(Defended(model), sets)
    assert evaluation.metrics["frr"] is None
    assert all(isinstance(seen, Inputs) for seen in model.seen)
    back = predictions.decode(evaluation.predictions["clean"])
    assert evaluation.metrics["acc"] == pytest.approx(100 * np.mean(back.labels == rows.labels))
    assert (back.gold == rows.labels).all()
    assert back.probabilities.shape == (20, 2)


def test_clean_reference_has_no_asr() -> None:
    evaluation = evaluate(Defended(FakeClassifier()), TestSets(examples(8), None, 0))
    assert [evaluation.metrics[name] for name in ("asr", "ra", "far")] == [None, None, None]
    assert evaluation.predictions["triggered"] is None


def test_rejected_is_wrong_and_no_success() -> None:
    class Refuser(Defended):
        rejects = True

        def predict(self, inputs: Inputs) -> Predictions:
            predicted = super().predict(inputs)
            return Predictions(predicted.labels, predicted.probabilities, np.ones(len(inputs), dtype=bool))

    rows = Examples(Inputs(("a", "bb")), np.array([1, 0]))
    measured = evaluate(Refuser(FakeClassifier()), TestSets(rows, rows.take([1]), 1)).metrics
    assert [measured[name] for name in ("acc", "asr", "ra", "frr", "far")] == [0, 0, 0, 100, 0]


def test_misshapen_verdicts_are_errors() -> None:
    class Short(Defended):
        def predict(self, inputs: Inputs) -> Predictions:
            return super().predict(inputs.take([0]))

    class Nan(Defended):
        def predict(self, inputs: Inputs) -> Predictions:
            predicted = super().predict(inputs)
            return Predictions(predicted.labels, predicted.probabilities * np.nan, predicted.rejected)

    for broken in (Short, Nan):
        with pytest.raises(ValueError, match=broken.__name__):
            evaluate(broken(FakeClassifier()), TestSets(examples(4), None, 0))


def test_damaged_predictions_are_errors() -> None:
    stored = evaluate(Defended(FakeClassifier()), TestSets(examples(8), None, 0)).predictions["clean"]
    with pytest.raises(ValueError, match="expected"):
        predictions.decode({**stored, "n": 7})
