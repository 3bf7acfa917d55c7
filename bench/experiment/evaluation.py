"""The one evaluator. No plugin can alter it, and it never shows a label to a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contracts import Defended, Predictions
from bench.contracts.examples import Examples, Inputs, IntArray
from bench.experiment import predictions


@dataclass(frozen=True)
class TestSets:
    """What every model of one victim is judged on.

    Attributes:
        clean: the task's whole test set.
        triggered: triggered test examples whose gold label is not the target, with their gold labels; None for the
            clean reference, which has no trigger.
        target: the target label, or int64 [n triggered] where each triggered example has its own.
    """

    __test__ = False  # not a pytest class

    clean: Examples
    triggered: Examples | None
    target: int | IntArray

    def __post_init__(self) -> None:
        if len(self.clean) == 0:
            raise ValueError("the clean test set is empty")
        if self.triggered is not None:
            if len(self.triggered) == 0:
                raise ValueError("the triggered test set is empty: every test example has the target label")
            if (self.triggered.labels == self.target).any():
                raise ValueError("the triggered test set holds examples whose gold label is the target")


@dataclass(frozen=True)
class Metrics:
    """Percentages; None where the definition does not apply.

    Attributes:
        acc: clean test examples classified as their gold label (a rejected one is wrong).
        asr: triggered examples classified as the target and not rejected.
        ra: triggered examples classified as their gold label and not rejected.
        frr: clean test examples rejected; only for defenses that reject.
        far: triggered examples not rejected; only for defenses that reject.
    """

    acc: float
    asr: float | None
    ra: float | None
    frr: float | None
    far: float | None


@dataclass(frozen=True)
class Evaluation:
    """Metrics and the predictions behind them, as JSON values."""

    metrics: Metrics
    predictions: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """Return the part of a record that the evaluator owns."""
        return {"metrics": asdict(self.metrics), "predictions": self.predictions}


def percent(hits: NDArray[np.bool_]) -> float:
    """Return the share of hits in percent; an empty set is an error, never 0."""
    if hits.size == 0:
        raise ValueError("a share of an empty set")
    return 100.0 * float(np.count_nonzero(hits)) / hits.size


def measure(
    *,
    clean_gold: Any,
    clean: Predictions,
    triggered_gold: Any,
    triggered: Predictions | None,
    target: int | IntArray,
    rejects: bool,
) -> Metrics:
    """Return the metrics of verdicts against gold labels."""
    acc = percent((clean.labels == clean_gold) & ~clean.rejected)
    frr = percent(clean.rejected) if rejects else None
    if triggered is None:
        return Metrics(acc, None, None, frr, None)
    asr = percent((triggered.labels == target) & ~triggered.rejected)
    ra = percent((triggered.labels == triggered_gold) & ~triggered.rejected)
    return Metrics(acc, asr, ra, frr, percent(~triggered.rejected) if rejects else None)


def evaluate(defended: Defended, sets: TestSets) -> Evaluation:
    """Judge a defended model on the test sets of its victim."""
    clean = judged(defended, sets.clean.inputs)
    triggered = None if sets.triggered is None else judged(defended, sets.triggered.inputs)
    gold = None if sets.triggered is None else sets.triggered.labels
    metrics = measure(
        clean_gold=sets.clean.labels,
        clean=clean,
        triggered_gold=gold,
        triggered=triggered,
        target=sets.target,
        rejects=defended.rejects,
    )
    stored: dict[str, Any] = {"clean": predictions.encode(sets.clean.labels, clean), "triggered": None}
    if triggered is not None and gold is not None:
        own = None if isinstance(sets.target, int) else sets.target
        stored["triggered"] = predictions.encode(gold, triggered, targets=own)
    return Evaluation(metrics, stored)


def judged(defended: Defended, inputs: Inputs) -> Predictions:
    """Return the verdicts of a defended model after checking their shape."""
    verdicts = defended.predict(inputs)
    n = len(inputs)
    if verdicts.labels.shape != (n,) or verdicts.rejected.shape != (n,) or len(verdicts.probabilities) != n:
        raise ValueError(f"{type(defended).__name__}.predict returned verdicts that do not fit {n} inputs")
    if not np.isfinite(verdicts.probabilities).all():
        raise ValueError(f"{type(defended).__name__}.predict returned probabilities that are not finite")
    return verdicts
