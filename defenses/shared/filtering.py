"""What filters of inputs share: rejection below a threshold that clean text sets, and the words of an input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from bench.contracts import Defended
from bench.contracts.examples import Inputs

Score = Callable[[Inputs, Any], np.ndarray]  # of inputs, and of predictions or responses


@dataclass(kw_only=True)
class Screened(Defended):
    """Rejects inputs whose score lies below a threshold.

    Attributes:
        score: of inputs and the model's answers to them: float [n], low where an input looks triggered.
        threshold: scores below it are rejected.
    """

    rejects: ClassVar[bool] = True

    score: Score
    threshold: float

    def predict(self, inputs: Inputs) -> Any:
        """Answer as the model does, and reject what scores too low."""
        plain = super().predict(inputs)
        return replace(plain, rejected=self.score(inputs, plain) < self.threshold)


def low_quantile(scores: np.ndarray, frr: float) -> float:
    """Return the highest threshold below which at most a share ``frr`` of clean scores lies; -inf without scores."""
    ordered = np.sort(scores)
    return float(ordered[min(int(frr * len(ordered)), len(ordered) - 1)]) if len(ordered) else -np.inf


def columns_of(inputs: Inputs) -> list[Sequence[str]]:
    """Return the one or two columns of text. A filter does not know which of a pair may carry a trigger."""
    return [inputs.texts] if inputs.pairs is None else [inputs.texts, inputs.pairs]


def rebuilt(columns: Sequence[Sequence[str]]) -> Inputs:
    """Return inputs from the columns of :func:`columns_of`."""
    return Inputs(tuple(columns[0]), tuple(columns[1]) if len(columns) > 1 else None)
