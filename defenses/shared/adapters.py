"""Low-rank adapters as parametrisations: whoever reads a weight reads the adapted one; they can be merged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from bench import learning

# Query and value projections: BERT, RoBERTa, ELECTRA; DistilBERT; DeBERTa; MPNet.
QUERY_AND_VALUE = (".query", ".value", ".q_lin", ".v_lin", ".query_proj", ".value_proj", ".attn.q", ".attn.v")


class LowRank(nn.Module):
    """Adds ``scale * up @ down`` to a weight of shape [out, in]; the factors may be parameters or set from outside.

    The rank is at most the smaller side of the weight.
    """

    def __init__(self, weight: torch.Tensor, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        rank, self.scale = min(rank, *weight.shape), scale
        bound = weight.shape[1] ** -0.5
        down = torch.empty(rank, weight.shape[1]).uniform_(-bound, bound, generator=generator)
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the adapted weight."""
        return weight + self.scale * (self.up @ self.down)


def projections(model: nn.Module, endings: Sequence[str] = QUERY_AND_VALUE) -> dict[str, nn.Linear]:
    """Return the query and value projections by name, lowest first.

    Raises:
        ValueError: the architecture has none under a known name.
    """
    layers = {n: m for n, m in model.named_modules() if n.endswith(tuple(endings)) and isinstance(m, nn.Linear)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no projections named {', '.join(endings)}")
    return layers


def adapt(
    model: Any, *, rank: int, alpha: float, seed: int, layers: Iterable[nn.Linear] | None = None
) -> list[LowRank]:
    """Put low-rank adapters, zero at first, on linear layers, in place: on query and value projections by default."""
    generator = torch.Generator().manual_seed(seed)
    adapters = []
    for layer in projections(model).values() if layers is None else list(layers):
        adapter = LowRank(layer.weight, rank, alpha / rank, generator)
        parametrize.register_parametrization(layer, "weight", adapter)
        adapters.append(adapter)
    return adapters


def trainable(model: Any, name: str) -> bool:
    """Whether a parameter belongs to an adapter or to the head; what a model writes words with is no head."""
    if ".parametrizations.weight.0." in name:
        return True
    return not name.startswith(f"{model.base_model_prefix}.") and bool(learning.head_modules(model))


def merge(model: nn.Module) -> None:
    """Turn every parametrised weight into a plain one with the value that it has now, in place."""
    for layer in list(model.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
