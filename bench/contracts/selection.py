"""The one rule by which every method chooses a hyper-parameter from the labels that it may see.

The labels are cut into two halves. A candidate is built on one half and answers the other, so that every label is
answered by a model that has not seen it. The drop of a candidate is the paired difference of right answers, reference
minus candidate. The reference is the candidate of the largest value, which takes nothing away, built on the same
halves: learning from half of the labels costs accuracy whatever the value is, and this is not what is chosen. Where a
method does not learn from the labels, the reference is the victim. A larger value takes less away, so drops fall with
the value up to noise: they are fitted by isotonic regression. The smallest value is chosen whose fitted drop is within
the tolerance; bisection finds it, and the method is built once more with it, on all labels.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contracts.examples import IntArray, stratified_order

Right = NDArray[Any]


def packed(array: NDArray[Any]) -> str:
    """Return the bytes of an array, compressed, as text."""
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii")


@dataclass(frozen=True)
class Candidate:
    """A value that was tried.

    Attributes:
        value: of the hyper-parameter.
        right: bool [n]: whether it answered each label right; float [n] from 0 to 1 where it can be partly right.
        confidence: float16 [n]: its probability of each gold label; None where a model says none.
        steps: of the trainings behind it, one number per half; empty where nothing is trained.
    """

    value: float
    right: Right
    confidence: NDArray[np.float16] | None
    steps: tuple[int, ...] = ()

    def answers(self) -> dict[str, str]:
        """Return what it answered as JSON values."""
        if self.confidence is None:
            return {"scores": packed(self.right.astype("<f2"))}
        return {"right": packed(np.packbits(self.right)), "confidence": packed(self.confidence.astype("<f2"))}


def halves(labels: IntArray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Return the rows of two disjoint halves, each with the proportions of the labels, in ascending order."""
    order = stratified_order(labels, rng)
    return np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])


@dataclass(frozen=True)
class Drops:
    """What the candidates lose against the reference on the same labels, in points of accuracy.

    Attributes:
        values: of the candidates, ascending.
        measured: float64 [candidates]: mean paired differences.
        fitted: float64 [candidates]: the same, made to fall with the value.
        errors: float64 [candidates]: standard errors of the means.
    """

    values: tuple[float, ...]
    measured: NDArray[np.float64]
    fitted: NDArray[np.float64]
    errors: NDArray[np.float64]

    def within(self, tolerance: float) -> NDArray[np.bool_]:
        """Return bool [candidates]: whether the fitted drop is within the tolerance."""
        passed: NDArray[np.bool_] = self.fitted <= tolerance
        return passed


def drops(reference: Right, tried: Sequence[Candidate]) -> Drops:
    """Return the drops of the candidates against the reference, in ascending order of their values."""
    from scipy.optimize import isotonic_regression

    ordered = sorted(tried, key=lambda candidate: candidate.value)
    lost = 100.0 * (reference.astype(np.float64) - np.stack([candidate.right for candidate in ordered]))
    errors = lost.std(axis=1, ddof=1) / math.sqrt(lost.shape[1])
    measured = lost.mean(axis=1)
    fitted = isotonic_regression(measured, increasing=False).x
    return Drops(tuple(candidate.value for candidate in ordered), measured, fitted, errors)


def passes(reference: Right, tried: Mapping[float, Candidate], value: float, *, tolerance: float) -> bool:
    """Return whether a value that was tried is within the tolerance, given all that were tried so far."""
    accuracy_drops = drops(reference, list(tried.values()))
    return bool(accuracy_drops.within(tolerance)[accuracy_drops.values.index(value)])
