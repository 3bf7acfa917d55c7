"""Ranges of activations, and the answers of a model whose activations are clamped to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.contracts import Classifier
from bench.examples import Inputs
from defenses.inner.forwards import arithmetic, batches, layers_of


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
                states = torch.stack(model(**batch, output_hidden_states=True).hidden_states[1:]).float()
            real = batch["attention_mask"].bool()
            part = states[:, real]
            least, most = part.amin(1), part.amax(1)
            low, high = (least, most) if not low.numel() else (torch.minimum(low, least), torch.maximum(high, most))
        return cls(high.clone().requires_grad_(), (high - low).clamp(min=1e-6).log().requires_grad_())

    @contextmanager
    def applied(self, model: Any) -> Iterator[None]:
        """While open, the states of all tokens are clamped behind every block."""

        def clamp(output: Any, top: torch.Tensor, log_width: torch.Tensor) -> Any:
            states = output[0] if isinstance(output, tuple) else output
            clamped = torch.minimum(torch.maximum(states, top - log_width.exp()), top).to(states.dtype)
            return (clamped, *output[1:]) if isinstance(output, tuple) else clamped

        handles = [
            block.register_forward_hook(lambda _b, _i, output, at=at: clamp(output, self.top[at], self.log_width[at]))
            for at, block in enumerate(layers_of(model))
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@torch.no_grad()
def clamped_logits(ranges: Ranges, classifier: Classifier, inputs: Inputs) -> np.ndarray:
    """Return float32 [n, classes] with clamped activations."""
    found = np.zeros((len(inputs), classifier.model.config.num_labels), dtype=np.float32)
    with ranges.applied(classifier.model.eval()), arithmetic(classifier):
        for rows, batch in batches(classifier, inputs):
            found[rows] = classifier.model(**batch).logits.float().cpu().numpy()
    return found


def agreeing(ranges: Ranges, classifier: Classifier, inputs: Inputs, original: torch.Tensor) -> float:
    """Return the share of inputs that keep their label when clamped."""
    clamped = clamped_logits(ranges, classifier, inputs).argmax(axis=-1)
    return float((clamped == original.argmax(-1).cpu().numpy()).mean())
