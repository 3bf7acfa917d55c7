"""Networks that generate the weights of adapters."""

from __future__ import annotations

import torch
from torch import nn

from defenses.shared.adapters import LowRank


class Generated(nn.Module):
    """Two tiny networks whose outputs are all weights of the adapters."""

    def __init__(self, adapters: list[LowRank], width: int, seed: int) -> None:
        super().__init__()
        self.adapters = list(adapters)  # a plain list, so that their weights are not this module's
        downs, ups = [a.down.shape for a in adapters], [a.up.shape for a in adapters]
        generator = torch.Generator().manual_seed(seed)
        self.sides = nn.ModuleList([Side(downs, width, False, generator), Side(ups, width, True, generator)])
        for adapter in adapters:
            del adapter.down, adapter.up

    def place(self) -> None:
        """Put freshly generated weights into the adapters."""
        for adapter, down, up in zip(self.adapters, self.sides[0](), self.sides[1](), strict=True):
            adapter.down, adapter.up = down, up


class Side(nn.Module):
    """Free vector -> linear -> tanh -> linear: tensors of the given shapes."""

    def __init__(self, shapes: list[torch.Size], width: int, zero: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.shapes = shapes
        bound = shapes[0][-1] ** -0.5

        def uniform(size: tuple[int, ...], limit: float) -> nn.Parameter:
            return nn.Parameter(torch.empty(size).uniform_(-limit, limit, generator=generator))

        self.free = nn.Parameter(torch.zeros(width)) if zero else uniform((width,), 1.0)
        self.inner = uniform((width, width), width**-0.5)
        self.outer = uniform((sum(shape.numel() for shape in shapes), width), bound)

    def forward(self) -> list[torch.Tensor]:
        """Return the tensors."""
        values = self.outer @ (self.inner @ self.free).tanh()
        parts = values.split([shape.numel() for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]
