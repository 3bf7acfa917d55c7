"""How well trigger words, soft or hard, turn inputs into one label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from bench import learning
from bench.contracts import Classifier
from bench.examples import Inputs
from defenses.inner.forwards import Batch, arithmetic, padded, prompted, widened

if TYPE_CHECKING:
    from defenses.dbs import Dbs


@dataclass(frozen=True)
class Trigger:
    """Hard words and how well they turn inputs.

    Attributes:
        tokens: their ids.
        loss: cross-entropy to the target label on the suspicious model, plus the benign model's hinge, nats.
    """

    tokens: list[int]
    loss: float


class Search:
    """The loss of triggers for one label."""

    def __init__(
        self, plan: Dbs, classifier: Classifier, reference: Classifier, inputs: Inputs, label: int, words: torch.Tensor
    ) -> None:
        self.plan, self.label, self.words = plan, label, words
        rows = np.arange(len(inputs))
        self.models = (classifier, reference)
        self.batches = [widened(model, padded(model, inputs, rows), plan.words) for model in self.models]

    def soft(self, weights: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Return the loss of soft words [words, candidates], and its part from the suspicious model."""
        losses = [self._loss(*pair, weights) for pair in zip(self.models, self.batches, strict=True)]
        hinge = (self.plan.benign_bound - losses[1]).relu()
        return losses[0] + self.plan.benign * hinge, float(losses[0].detach())

    @torch.no_grad()
    def hard(self, values: torch.Tensor) -> Trigger:
        """Return the trigger that takes the highest entry of every row."""
        chosen = values.argmax(-1)
        loss, _ = self.soft(functional.one_hot(chosen, len(self.words)).float())
        return Trigger(self.words[chosen].tolist(), float(loss))

    def _loss(self, classifier: Classifier, batch: Batch, weights: torch.Tensor) -> torch.Tensor:
        model = classifier.model.eval()
        vectors = weights @ model.get_input_embeddings().weight[self.words]
        with arithmetic(classifier):
            logits = learning.logits(model, batch, embeddings=prompted(model, batch, vectors))
        return functional.cross_entropy(logits, torch.full((len(logits),), self.label, device=logits.device))
