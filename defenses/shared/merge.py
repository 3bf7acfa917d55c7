"""Arithmetic on the weights of several models: mappings from parameter names to tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

Tensors = Mapping[str, torch.Tensor]


def average(models: Sequence[Tensors], shares: Sequence[float]) -> dict[str, torch.Tensor]:
    """Return the weighted mean of every tensor, computed in float64."""
    if abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"the shares of the models sum to {sum(shares)}, not to 1")
    mixed = {}
    for name, first in models[0].items():
        parts = [share * model[name].to(first.device).double() for share, model in zip(shares, models, strict=True)]
        mixed[name] = torch.stack(parts).sum(0).to(first.dtype)
    return mixed


def differences(model: Tensors, base: Tensors) -> dict[str, torch.Tensor]:
    """Return the task vector of a model, for the names that the base has."""
    return {name: model[name] - base[name].to(model[name]) for name in model if name in base}


def trimmed(vector: Tensors, keep: float) -> dict[str, torch.Tensor]:
    """Return a task vector with all but the ``keep`` share of largest scalars of the whole model set to 0."""
    flat = torch.cat([tensor.flatten() for tensor in vector.values()]).abs()
    zeroed = len(flat) - int(keep * len(flat))
    smallest = torch.argsort(flat, stable=True)[:zeroed]
    mask = torch.ones(len(flat), dtype=torch.bool, device=flat.device)
    mask[smallest] = False
    parts = mask.split([tensor.numel() for tensor in vector.values()])
    return {n: tensor * part.view_as(tensor) for (n, tensor), part in zip(vector.items(), parts, strict=True)}


def ties(vectors: Sequence[Tensors], *, keep: float) -> dict[str, torch.Tensor]:
    """Return the TIES merge of task vectors: trim, elect the sign with more mass, average those that agree."""
    cut = [trimmed(vector, keep) for vector in vectors]
    merged = {}
    for name in cut[0]:
        stack = torch.stack([vector[name].to(cut[0][name].device) for vector in cut])
        agree = (stack.sign() == stack.sum(0).sign()) & (stack != 0)
        merged[name] = (stack * agree).sum(0) / agree.sum(0).clamp_min(1)
    return merged


def dare(vector: Tensors, *, drop: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Return a task vector with scalars dropped at random and the others scaled up to the same expectation."""
    kept = {}
    for name, tensor in vector.items():
        stay = torch.rand(tensor.shape, generator=generator) >= drop
        kept[name] = tensor * stay.to(tensor.device) / (1 - drop)
    return kept
