"""How well trigger words, soft or hard, turn inputs into one label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from bench import learning
from bench.contracts import Classifier
from bench.contracts.examples import Inputs
from defenses.shared.forwards import Batch, arithmetic, padded, prompted, widened


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
    """The loss of triggers for one label.

    Args:
        classifier: the suspicious model.
        benign_model: one without a backdoor, which a trigger should not turn.
        inputs: of other labels.
        label: that the trigger should lead to.
        words: ids of the candidates.
        length: words of a trigger.
        benign: weight of the benign model's hinge.
        benign_bound: loss of the benign model from which on it counts nothing.
    """

    def __init__(
        self,
        classifier: Classifier,
        benign_model: Classifier,
        inputs: Inputs,
        label: int,
        words: torch.Tensor,
        *,
        length: int,
        benign: float,
        benign_bound: float,
    ) -> None:
        self.label, self.words, self.benign, self.benign_bound = label, words, benign, benign_bound
        rows = np.arange(len(inputs))
        self.models = (classifier, benign_model)
        self.batches = [widened(model, padded(model, inputs, rows), length) for model in self.models]

    def soft(self, weights: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Return the loss of soft words [words, candidates], and its part from the suspicious model."""
        losses = [self._loss(*pair, weights) for pair in zip(self.models, self.batches, strict=True)]
        hinge = (self.benign_bound - losses[1]).relu()
        return losses[0] + self.benign * hinge, float(losses[0].detach())

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
