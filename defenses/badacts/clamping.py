"""Ranges of activations, and the answers of a model whose activations are clamped to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bench import learning
from bench.contracts import Classifier
from bench.contracts.examples import Inputs
from defenses.shared.forwards import arithmetic, batches


@dataclass
class Ranges:
    """The range of every block and dimension: [top - exp(log_width), top], each [blocks, hidden]."""

    top: torch.Tensor
    log_width: torch.Tensor

    @classmethod
    @torch.no_grad()
    def around(cls, classifier: Classifier, inputs: Inputs) -> Ranges:
        """Return the ranges of the activations of all real tokens."""
        model = classifier.model.eval()
        low = high = torch.zeros(0)
        for _rows, batch in batches(classifier, inputs):
            with arithmetic(classifier):
                states = torch.stack(learning.block_states(model, batch)[0][1:])
            part = states[:, batch["attention_mask"].bool()]
            least, most = part.amin(1), part.amax(1)
            low, high = (least, most) if not low.numel() else (torch.minimum(low, least), torch.maximum(high, most))
        return cls(high.clone().requires_grad_(), (high - low).clamp(min=1e-6).log().requires_grad_())

    def clamp(self, number: int, states: torch.Tensor) -> torch.Tensor:
        """Clamp what leaves a block, [tokens, hidden], where ``number`` is that of the next one; keep embeddings."""
        if not number:
            return states
        top = self.top[number - 1]
        return torch.minimum(torch.maximum(states, top - self.log_width[number - 1].exp()), top)


@torch.no_grad()
def clamped_logits(ranges: Ranges, classifier: Classifier, inputs: Inputs) -> np.ndarray:
    """Return float32 [n, classes] with clamped activations."""
    logits = np.zeros((len(inputs), classifier.model.config.num_labels), dtype=np.float32)
    model = classifier.model.eval()
    for rows, batch in batches(classifier, inputs):
        with arithmetic(classifier):
            logits[rows] = learning.logits(model, batch, edit=ranges.clamp).cpu().numpy()
    return logits


def agreeing(ranges: Ranges, classifier: Classifier, inputs: Inputs, original: torch.Tensor) -> float:
    """Return the share of inputs that keep their label when clamped."""
    clamped = clamped_logits(ranges, classifier, inputs).argmax(axis=-1)
    return float((clamped == original.argmax(-1).cpu().numpy()).mean())
