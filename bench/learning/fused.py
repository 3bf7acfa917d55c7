"""Steps between the matrix products of a decoder, each with a backward pass of its own that keeps and moves little.

On a CPU these steps cost memory traffic only, and composed of torch's functions they cost as much time as the products.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def normed(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Return x [T, hidden] over the root of its mean square, times the weight."""
    return functional.rms_norm(x, weight.shape, weight, eps)


def silu_times(x: torch.Tensor) -> torch.Tensor:
    """Return silu(gate) * up of [T, 2 * inner], in which both lie side by side: [T, inner]."""
    gate, up = x.chunk(2, dim=-1)
    return functional.silu(gate) * up


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, heads: int) -> torch.Tensor:
    """Turn the first ``heads`` heads of x [T, all heads, size] by the angles of their positions."""
    first, second = x[:, :heads].float().chunk(2, dim=-1)
    moved = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)
    return torch.cat([moved, x[:, heads:]], dim=1)
