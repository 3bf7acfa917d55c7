"""Mix the weights of a victim with pre-trained ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from bench.learning.classifier import Classifier

Tensors = Mapping[str, torch.Tensor]


def mix(
    victim: Tensors,
    pretrained: Tensors,
    *,
    reserve_ratio: float,
    seed: int,
    by: Literal["random", "drift"] = "random",
) -> dict[str, torch.Tensor]:
    """Return new tensors, for the names in both, with floor(reserve_ratio * d) of the victim's d scalars."""
    mixed = {name: victim[name].detach().clone() for name in victim if name in pretrained}
    mix_(mixed, pretrained, reserve_ratio=reserve_ratio, seed=seed, by=by)
    return mixed


def mix_into(
    classifier: Classifier,
    pretrained: Tensors,
    *,
    reserve_ratio: float,
    seed: int,
    by: Literal["random", "drift"] = "random",
) -> None:
    """Mix the weights of a classifier in place; parameters without a pre-trained counterpart stay."""
    own = {name: p.data for name, p in classifier.model.named_parameters() if name in pretrained}
    mix_(own, pretrained, reserve_ratio=reserve_ratio, seed=seed, by=by)


def mix_(
    victim: Tensors, pretrained: Tensors, *, reserve_ratio: float, seed: int, by: Literal["random", "drift"] = "random"
) -> None:
    """Mix in place: floor(reserve_ratio * d) of the victim's d scalars stay, the rest become the pre-trained ones."""
    names = list(victim)
    total = sum(victim[name].numel() for name in names)
    kept = int(reserve_ratio * total)
    if by == "random":
        scores = torch.rand(total, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    else:
        scores = -torch.cat(
            [(victim[n].double() - pretrained[n].to(victim[n]).double()).abs().flatten() for n in names]
        )
    order = torch.argsort(scores, stable=True)
    gone = torch.ones(total, dtype=torch.bool)
    gone[order[:kept]] = False
    start = 0
    for name in names:
        own: Any = victim[name]
        mask = gone[start : start + own.numel()].view(own.shape).to(own.device)
        own.copy_(torch.where(mask, pretrained[name].to(own), own))
        start += own.numel()
