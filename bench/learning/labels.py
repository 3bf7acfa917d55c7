"""What a classifier is trained on: the cross-entropy of labels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from bench.contracts.examples import Examples, IntArray
from bench.learning import packed, unpadded
from bench.learning.batches import collate_for
from bench.learning.tokens import encode
from bench.learning.vocabulary import TrainedWeights, used_words


class LabelLoss:
    """The cross-entropy of the labels of n examples; see :class:`bench.learning.training.Objective`."""

    def __init__(self, classifier: Any, examples: Examples) -> None:
        self.model, self.device = classifier.model, classifier.device
        self.encoded = encode(classifier.tokenizer, examples.inputs, classifier.max_length)
        self.labels = examples.labels
        self.lengths = self.encoded.lengths
        self.sizes = np.ones(len(examples), dtype=np.int64)

    def weights(self, decay: Callable[[], float]) -> AbstractContextManager[TrainedWeights]:
        """Return what is trained; see :func:`bench.learning.vocabulary.used_words`."""
        return used_words(self.model, self.encoded, decay=decay)

    def loss(
        self, rows: IntArray, weights: TrainedWeights, noise: unpadded.Noise, precision: str, *, with_logits: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the mean loss of some rows, and their float32 logits."""
        logits = self.logits(rows, weights, noise, low=precision == "bf16")
        return functional.cross_entropy(logits, torch.from_numpy(self.labels[rows]).to(self.device)), logits

    def logits(self, rows: IntArray, weights: TrainedWeights, noise: unpadded.Noise, *, low: bool) -> torch.Tensor:
        """Return float32 logits with dropout: without padding where the architecture is known, else by the model."""
        if packed.supports(self.model):
            batch = unpadded.pack(self.encoded, rows, self.model, number=weights.row_of_word)
            dtype = torch.bfloat16 if low else torch.float32
            return packed.logits(self.model, batch, dtype=dtype, words=weights.words, noise=noise)
        batch_of_model = self.batch(rows)
        del batch_of_model["labels"]
        with torch.autocast(self.device, torch.bfloat16, enabled=low):
            output: torch.Tensor = self.model(**batch_of_model).logits
        return output.float()

    def spare_memory(self) -> bool:
        """There is no way to need less memory; return False."""
        return False

    def parts(self, rows: IntArray, most: int) -> list[IntArray]:
        """Return the rows in parts of ``most`` and a rest."""
        return [rows[start : start + most] for start in range(0, len(rows), most)]

    def batch(self, rows: IntArray) -> dict[str, torch.Tensor]:
        """Return rows as transformers models take them, with their labels."""
        batch = collate_for(self.model.config, self.encoded, rows)
        batch["labels"] = torch.from_numpy(self.labels[rows])
        return {name: tensor.to(self.device) for name, tensor in batch.items()}
