"""What a generator is trained on: the cross-entropy of the tokens of responses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from bench.contracts.dialogues import Dialogues
from bench.contracts.examples import IntArray
from bench.learning import decoders, unpadded
from bench.learning.batches import collate
from bench.learning.vocabulary import TrainedWeights, all_weights

TOGETHER = 4096  # tokens that go through the model at once: what is kept for the backward pass of them fits anywhere


class ResponseLoss:
    """The mean cross-entropy of the response tokens of n dialogues; see :class:`bench.learning.training.Objective`."""

    def __init__(self, generator: Any, dialogues: Dialogues) -> None:
        self.model, self.device = generator.model, generator.device
        self.encoded = generator.encode(dialogues)
        self.lengths = self.encoded.tokens.lengths
        self.sizes = self.encoded.responses
        self.recompute = False
        self.together = TOGETHER

    def weights(self, decay: Callable[[], float]) -> AbstractContextManager[TrainedWeights]:
        """Return what is trained: everything, since tied embeddings get a gradient for every word."""
        return all_weights(self.model)

    def loss(
        self, rows: IntArray, weights: TrainedWeights, noise: unpadded.Noise, precision: str, *, with_logits: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the mean loss of the rows' response tokens, and float32 logits [tokens, vocabulary] of them."""
        low, recompute = precision == "bf16", self.recompute
        if not with_logits:
            return decoders.response_loss(self.model, self.encoded, rows, low=low, recompute=recompute), None
        logits, gold = decoders.response_logits(self.model, self.encoded, rows, low=low, recompute=recompute)
        return functional.cross_entropy(logits, gold), logits

    def spare_memory(self) -> bool:
        """Compute what a backward pass needs twice instead of keeping it; return whether that is new."""
        changed, self.recompute = not self.recompute, True
        return changed and decoders.supports(self.model)

    def parts(self, rows: IntArray, most: int) -> list[IntArray]:
        """Return the rows in parts of at most ``most`` rows and, unless it is a single row, ``together`` tokens."""
        parts: list[list[int]] = []
        tokens = 0
        for row in rows.tolist():
            tokens += int(self.lengths[row])
            if not parts or len(parts[-1]) == most or tokens > self.together:
                parts.append([])
                tokens = int(self.lengths[row])
            parts[-1].append(row)
        return [np.array(part, dtype=np.int64) for part in parts]

    def batch(self, rows: IntArray) -> dict[str, torch.Tensor]:
        """Return rows as transformers models take them; labels are -100 but on response tokens."""
        batch = collate(self.encoded.tokens, rows, 0)
        batch["labels"] = decoders.response_labels(self.encoded, rows)
        return {name: tensor.to(self.device) for name, tensor in batch.items()}
