"""Radial scalings: low-rank terms of several scales."""

from __future__ import annotations

import torch

from defenses.shared.adapters import LowRank


class Radial(LowRank):
    """A low-rank term whose every row of ``down`` has a scale of its own."""

    def __init__(self, weight: torch.Tensor, bands: tuple[float, ...], alpha: float, seed: int) -> None:
        super().__init__(weight, len(bands), alpha / len(bands), torch.Generator().manual_seed(seed))
        self.bands = torch.tensor(bands, dtype=weight.dtype, device=weight.device)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the scaled weight."""
        return weight + self.scale * (self.up @ (self.bands[:, None] * self.down))
