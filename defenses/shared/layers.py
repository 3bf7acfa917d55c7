"""The linear layers of a model's blocks, and what enters them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from bench import learning
from bench.contracts import Examples, Model

TOGETHER = 16  # examples that go through the model together


def linears(model: Any) -> list[tuple[str, nn.Linear]]:
    """Return the linear layers of the blocks with their names, lowest first; neither embeddings nor a head."""
    return [(name, part) for name, part in learning.blocks(model).named_modules() if isinstance(part, nn.Linear)]


@torch.no_grad()
def input_norms(classifier: Model, examples: Examples) -> dict[str, torch.Tensor]:
    """Return the norm of what enters each linear layer over all real tokens: float32 [in], by the layer's name."""
    model, objective = classifier.model.eval(), classifier.objective(examples)  # type: ignore[attr-defined]
    layers = linears(model)
    sums = {name: torch.zeros(part.in_features, device=part.weight.device) for name, part in layers}
    mask = torch.zeros(0)

    def add(name: str) -> Callable[..., None]:
        def hook(_layer: nn.Module, entering: Any) -> None:
            real = entering[0][mask] if entering[0].dim() == 3 else entering[0]
            sums[name] += real.float().square().sum(0)

        return hook

    hooks = [part.register_forward_pre_hook(add(name)) for name, part in layers]
    try:
        for start in range(0, len(examples), TOGETHER):
            batch = objective.batch(np.arange(start, min(start + TOGETHER, len(examples))))
            mask = batch["attention_mask"].bool()
            model.base_model(**{name: tensor for name, tensor in batch.items() if name != "labels"})
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total.sqrt() for name, total in sums.items()}
