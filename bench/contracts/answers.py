"""What models say: labels with probabilities, or responses in text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.contracts.examples import IntArray
from bench.contracts.plugin import FloatArray


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


def predictions(logits: FloatArray) -> Predictions:
    """Return what logits [n, classes] say, with nothing rejected."""
    labels = logits.argmax(axis=-1).astype(np.int64)
    return Predictions(labels, softmax(logits), np.zeros(len(logits), dtype=bool))


@dataclass(frozen=True)
class Responses:
    """Responses to n prompts.

    Attributes:
        texts: n responses, without the token that ends them; one that is rejected may be empty.
        tokens: n arrays of token ids, the same without the token that ends them.
        ended: bool [n]: whether the model ended the response by itself.
        rejected: bool [n]: the defense refuses to answer.
    """

    texts: tuple[str, ...]
    tokens: tuple[NDArray[np.int32], ...]
    ended: NDArray[np.bool_]
    rejected: NDArray[np.bool_]
