"""What comes out of a defense: a classifier behind it, and its predictions; or how suspicious a model is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.contracts.examples import Inputs, IntArray
from bench.contracts.plugin import FloatArray
from bench.contracts.task import Classifier


@dataclass(frozen=True)
class Predictions:
    """Predictions for n inputs.

    Attributes:
        labels: int64 [n].
        probabilities: float32 [n, classes].
        rejected: bool [n]: the defense refuses to answer.
    """

    labels: IntArray
    probabilities: FloatArray
    rejected: NDArray[np.bool_]


def softmax(logits: FloatArray) -> FloatArray:
    """Return probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: FloatArray = (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)
    return result


@dataclass
class Defended:
    """A classifier behind a defense. Purified weights are just a classifier; filters override ``predict``.

    Attributes:
        classifier: the model after the defense.
        notes: JSON values for the record, such as the reserve ratio and the candidates tried.
    """

    classifier: Classifier
    notes: dict[str, Any] = field(default_factory=dict)
    rejects: ClassVar[bool] = False

    def predict(self, inputs: Inputs) -> Predictions:
        """Return one verdict for each input."""
        logits = self.classifier.logits(inputs)
        labels = logits.argmax(axis=-1).astype(np.int64)
        return Predictions(labels, softmax(logits), np.zeros(len(inputs), dtype=bool))


@dataclass(frozen=True)
class Suspicion:
    """What a detector says of a model.

    Attributes:
        score: the higher, the more suspicious; only its order among models of one task and architecture counts.
        notes: JSON values for the record.
    """

    score: float
    notes: Mapping[str, Any] = field(default_factory=dict)
