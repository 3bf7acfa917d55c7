"""The network that tells clean from backdoored adapters."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class MetaClassifier(nn.Module):
    """Convolution over the pooled adapters, then 512, 128 and 1 units."""

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__()
        side = (grid + 1) // 2
        self.convolution = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.rest = nn.Sequential(
            nn.Linear(channels * side * side, 512),
            nn.LeakyReLU(),
            nn.Linear(512, 128),
            nn.LeakyReLU(),
            nn.Linear(128, 1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return one logit for each member: [n, channels, grid, grid] -> [n]."""
        hidden = functional.leaky_relu(self.convolution(features)).flatten(1)
        logits: torch.Tensor = self.rest(hidden)[:, 0]
        return logits
