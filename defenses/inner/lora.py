"""Low-rank adapters as parametrisations, so that whoever reads a weight reads the adapted one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils import parametrize

from bench.learning import blocks

MARK = ".parametrizations.weight.0."


class LowRank(nn.Module):
    """Adds ``scale * up @ down`` to a weight; zero at first."""

    def __init__(self, weight: torch.Tensor, rank: int, scale: float) -> None:
        super().__init__()
        rank = min(rank, *weight.shape)
        self.scale = scale
        self.down = nn.Parameter(torch.empty(rank, weight.shape[1]))
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the adapted weight."""
        return weight + self.scale * (self.up @ self.down)


def attach(model: nn.Module, *, rank: int, alpha: float, seed: int) -> None:
    """Put an adapter on every linear layer of every block, in place; a rank is at most the smaller side of a weight."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for layer in list(_linears(model)):
            adapter = LowRank(layer.weight.detach().cpu(), rank, alpha / rank).to(layer.weight.device)
            parametrize.register_parametrization(layer, "weight", adapter)


def merge(model: nn.Module) -> None:
    """Add the adapters to the weights and take them off, in place."""
    for layer in list(_linears(model)):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def trainable(model: nn.Module, name: str) -> bool:
    """Whether a parameter belongs to an adapter or to the head."""
    return MARK in name or not name.startswith(f"{model.base_model_prefix}.")


def _linears(model: nn.Module) -> Iterator[nn.Linear]:
    return (part for part in blocks(model).modules() if isinstance(part, nn.Linear))
