"""Train only the word embeddings that occur, with the same result: a row without a gradient moves by its decay only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.contracts.examples import IntArray
from bench.learning import packed
from bench.learning.tokens import Encoded


@dataclass(frozen=True)
class TrainedWeights:
    """What a training step works on.

    Attributes:
        parameters: the parameters to train.
        words: float32 [k, hidden]: the embeddings of the words that occur; None for the model's own table.
        row_of_word: int64 [vocabulary]: the row of each word in ``words``.
    """

    parameters: list[nn.Parameter]
    words: nn.Parameter | None = None
    row_of_word: IntArray | None = None


@contextmanager
def all_weights(model: Any) -> Iterator[TrainedWeights]:
    """Train the model's own parameters."""
    yield TrainedWeights([parameter for parameter in model.parameters() if parameter.requires_grad])


@contextmanager
def used_words(model: Any, encoded: Encoded, *, decay: Callable[[], float]) -> Iterator[TrainedWeights]:
    """Train a copy of the embeddings that occur and put it back at the end.

    Exact for AdamW: the moments of the other rows stay zero, so all that happens to them is weight decay.

    Args:
        model: the classifier's; one that :mod:`bench.learning.packed` does not know trains its whole table.
        encoded: everything that will be seen.
        decay: call at the end for what the whole training leaves of a row without a gradient.
    """
    table = model.get_input_embeddings().weight
    if not table.requires_grad or not packed.supports(model):
        with all_weights(model) as weights:
            yield weights
        return
    used = np.unique(encoded.ids)
    row_of_word = np.zeros(len(table), dtype=np.int64)
    row_of_word[used] = np.arange(len(used))
    rows = torch.from_numpy(used.astype(np.int64)).to(table.device)
    words = nn.Parameter(table.detach()[rows].clone())
    others = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter is not table]
    yield TrainedWeights([words, *others], words, row_of_word)
    if (left := decay()) != 1:
        table.data.mul_(left)
    table.data[rows] = words.detach()
