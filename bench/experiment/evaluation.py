"""The one evaluator. No plugin can alter it, and it never shows a label to a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contracts import Defended, Predictions
from bench.contracts.examples import Examples, Inputs, IntArray
from bench.experiment import metrics, predictions
from bench.experiment.answers import Answers, Judged

Columns = Mapping[str, NDArray[np.float32]]  # [n] each, by name


@dataclass(frozen=True)
class TestSets:
    """What every model of one victim is judged on.

    Attributes:
        clean: the task's whole test set.
        triggered: triggered test examples whose gold label is not the target, with their gold labels; None for the
            clean reference, which has no trigger.
        target: the target label, or int64 [n triggered] where each triggered example has its own.
        sources: int64 [n triggered]: the row of ``clean`` that each triggered example was made from.
    """

    __test__ = False  # not a pytest class

    clean: Examples
    triggered: Examples | None
    target: int | IntArray
    sources: IntArray | None = None

    def __post_init__(self) -> None:
        if len(self.clean) == 0:
            raise ValueError("the clean test set is empty")
        if self.triggered is not None:
            if len(self.triggered) == 0:
                raise ValueError("the triggered test set is empty: every test example has the target label")
            if (self.triggered.labels == self.target).any():
                raise ValueError("the triggered test set holds examples whose gold label is the target")
            if self.sources is not None and (self.clean.labels[self.sources] != self.triggered.labels).any():
                raise ValueError("triggered test examples have other gold labels than the rows they were made from")


@dataclass(frozen=True)
class Evaluation:
    """Metrics and the predictions behind them, as JSON values.

    Attributes:
        metrics: percent by name, see :data:`bench.experiment.metrics.MEASURED`; None where one is not defined.
        predictions: of the clean and of the triggered test set, and the columns of measures beside them.
    """

    metrics: dict[str, float | None]
    predictions: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """Return the part of a record that the evaluator owns."""
        return {"metrics": self.metrics, "predictions": self.predictions}


def evaluate(defended: Defended, sets: TestSets, beside: Columns | None = None) -> Evaluation:
    """Judge a defended model on the test sets of its victim.

    Args:
        defended: the model.
        sets: what it is judged on.
        beside: float32 [n] by column: what measures say of it.
    """
    clean = answered(defended, sets.clean.inputs)
    stored: dict[str, Any] = {"clean": predictions.encode(sets.clean.labels, clean), "triggered": None}
    stored |= predictions.encode_beside(beside)
    triggered = None
    if sets.triggered is not None:
        answer, gold = answered(defended, sets.triggered.inputs), sets.triggered.labels
        own = None if isinstance(sets.target, int) else sets.target
        stored["triggered"] = predictions.encode(gold, answer, targets=own, sources=sets.sources)
        triggered = Answers(gold, answer.labels, answer.rejected)
    judged = Judged(
        clean=Answers(sets.clean.labels, clean.labels, clean.rejected),
        triggered=triggered,
        target=sets.target,
        rejects=defended.rejects,
        sources=sets.sources,
        beside=predictions.decode_beside(stored),
    )
    return Evaluation(metrics.measure(judged), stored)


def answered(defended: Defended, inputs: Inputs) -> Predictions:
    """Return the predictions of a defended model after checking their shape."""
    predicted: Predictions = defended.predict(inputs)
    n = len(inputs)
    if predicted.labels.shape != (n,) or predicted.rejected.shape != (n,) or len(predicted.probabilities) != n:
        raise ValueError(f"{type(defended).__name__}.predict returned verdicts that do not fit {n} inputs")
    if not np.isfinite(predicted.probabilities).all():
        raise ValueError(f"{type(defended).__name__}.predict returned probabilities that are not finite")
    return predicted
