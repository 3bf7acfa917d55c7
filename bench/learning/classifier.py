"""A transformers sequence classifier with its tokenizer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from bench.contracts import FloatArray, Predictions, predictions
from bench.contracts.examples import Examples, Inputs, IntArray
from bench.learning import packed, unpadded
from bench.learning.batches import by_budget, collate_for
from bench.learning.labels import LabelLoss
from bench.learning.language_model import WEIGHTS as WEIGHTS
from bench.learning.language_model import LanguageModel, saved_facts
from bench.learning.tokens import Encoded, encode

if TYPE_CHECKING:
    from bench.models.pretrained import PretrainedModel

TOKEN_BUDGET = 4096
FACTS = "classifier.json"


class Classifier(LanguageModel):
    """A sequence-classification model of transformers, its fast tokenizer and how both are used.

    Attributes:
        token_budget: tokens of an evaluation batch; halved when the device runs out of memory.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, max_length: int, *, device: str = "auto", precision: str = "auto"
    ) -> None:
        super().__init__(model, tokenizer, max_length, device=device, precision=precision)
        self.token_budget = TOKEN_BUDGET

    def logits(self, inputs: Inputs) -> FloatArray:
        """Return float32 [n, classes]; the model is in evaluation mode. Inputs go through in length-sorted batches."""
        encoded = encode(self.tokenizer, inputs, self.max_length)
        self.model.eval()
        outputs: list[tuple[IntArray, torch.Tensor]] = []
        waiting = by_budget(encoded.lengths, self.token_budget)[::-1]
        while waiting:
            rows = waiting.pop()
            try:
                outputs.append((rows, self._forward(encoded, rows)))
            except torch.OutOfMemoryError:
                if len(rows) == 1:
                    raise
                self.token_budget = max(1, self.token_budget // 2)
                half = len(rows) // 2
                waiting += [rows[half:], rows[:half]]
        result = np.zeros((len(inputs), self.model.config.num_labels), dtype=np.float32)
        for rows, part in outputs:  # only now, so that a GPU never waits for the copy
            result[rows] = part.cpu().numpy()
        return result

    def padded(self, inputs: Inputs) -> dict[str, torch.Tensor]:
        """Return inputs as one batch that transformers models take."""
        encoded = encode(self.tokenizer, inputs, self.max_length)
        batch = collate_for(self.model.config, encoded, np.arange(len(inputs)))
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def predict(self, inputs: Inputs) -> Predictions:
        """Return one label for each input, with the probabilities of all."""
        return predictions(self.logits(inputs))

    @torch.inference_mode()
    def _forward(self, encoded: Encoded, rows: IntArray) -> torch.Tensor:
        low = self.precision == "bf16"
        if packed.supports(self.model):
            batch = unpadded.pack(encoded, rows, self.model)
            return packed.logits(self.model, batch, dtype=torch.bfloat16 if low else torch.float32)
        padded = collate_for(self.model.config, encoded, rows)
        with torch.autocast(self.device, torch.bfloat16, enabled=low):
            output: torch.Tensor = self.model(
                **{name: tensor.to(self.device) for name, tensor in padded.items()}
            ).logits
        return output.float()

    def clone(self) -> Classifier:
        """Return an independent copy."""
        return Classifier(
            copy.deepcopy(self.model),
            self.tokenizer,
            self.max_length,
            device=self.device,
            precision=self.precision,
        )

    def objective(self, examples: Examples) -> LabelLoss:
        """Return what it is trained on: the labels."""
        return LabelLoss(self, examples)

    def save(self, folder: Path) -> None:
        """Write the weights as safetensors and what is needed to load them; the tokenizer is not written."""
        self._save(folder, FACTS, {"classes": self.model.config.num_labels, "max_length": self.max_length})

    @staticmethod
    def load(
        folder: Path,
        pretrained: PretrainedModel,
        *,
        device: str = "auto",
        precision: str = "auto",
        weights: Callable[[Any], Mapping[str, torch.Tensor]] | None = None,
    ) -> Classifier:
        """Read what :meth:`save` wrote; architecture and tokenizer come from the pre-trained model.

        Args:
            folder: where it is.
            pretrained: the model that it was trained from.
            device: see :class:`Classifier`.
            precision: see :class:`Classifier`.
            weights: returns the weights for a fresh model, where the folder holds them in another form.

        Raises:
            RequestError: the folder holds no saved classifier.
        """
        facts = saved_facts(folder, FACTS, what="classifier", with_weights=weights is None)
        model = pretrained.classifier_model(classes=facts["classes"], seed=0)
        classifier = Classifier(model, pretrained.tokenizer(), facts["max_length"], device=device, precision=precision)
        classifier._restore(folder, weights)
        return classifier
