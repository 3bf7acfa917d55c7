"""Mix the weights of a victim with pre-trained ones: exactly floor(reserve_ratio * d) of d scalars stay.

At random means: every scalar gets a random byte, and ties get a random key besides; those with the smallest
(byte, key) stay. So every subset of the right size is equally likely, the kept sets of one seed grow with the ratio,
and only the ties of one byte need keys. Bytes are drawn tensor by tensor: no mask of the whole model is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from bench.learning.classifier import Classifier

Tensors = Mapping[str, torch.Tensor]
Mask = NDArray[np.bool_]


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
    sizes = [tensor.numel() for tensor in victim.values()]
    kept = int(reserve_ratio * sum(sizes))
    masks = random_masks(sizes, kept, seed) if by == "random" else _largest_drift(victim, pretrained, kept)
    for (name, tensor), mask in zip(victim.items(), masks, strict=True):
        own: Any = tensor
        keep = torch.from_numpy(mask).view(own.shape).to(own.device)
        torch.where(keep, own, pretrained[name].to(own), out=own)


def random_masks(sizes: Sequence[int], kept: int, seed: int) -> Iterator[Mask]:
    """Yield one mask a tensor; together they have exactly ``kept`` ones, every such subset being equally likely."""
    level = min(255, 256 * kept // max(1, sum(sizes)))
    below, equal = _counts(sizes, seed, level)
    while below > kept:
        level -= 1
        below, equal = _counts(sizes, seed, level)
    while below + sum(equal) < kept:
        below, level = below + sum(equal), level + 1
        equal = _counts(sizes, seed, level)[1]
    keys = [np.random.default_rng((seed, i, level)).random(count) for i, count in enumerate(equal)]
    ties = np.zeros(sum(equal), dtype=bool)
    if kept > below:
        ties[np.argpartition(np.concatenate(keys), kept - below - 1)[: kept - below]] = True
    start = 0
    for i, size in enumerate(sizes):
        drawn = _bytes(seed, i, size)
        mask = drawn < level
        mask[np.flatnonzero(drawn == level)] = ties[start : start + equal[i]]
        start += equal[i]
        yield mask


def _bytes(seed: int, index: int, size: int) -> NDArray[np.uint8]:
    return np.frombuffer(np.random.Generator(np.random.SFC64((seed, index))).bytes(size), dtype=np.uint8)


def _counts(sizes: Sequence[int], seed: int, level: int) -> tuple[int, list[int]]:
    """Return how many bytes are below a level in all, and how many are equal to it in each tensor."""
    below, equal = 0, []
    for i, size in enumerate(sizes):
        drawn = _bytes(seed, i, size)
        below += int(np.count_nonzero(drawn < level))
        equal.append(int(np.count_nonzero(drawn == level)))
    return below, equal


def _largest_drift(victim: Tensors, pretrained: Tensors, kept: int) -> Iterator[Mask]:
    """Yield masks of the ``kept`` scalars that moved most; of equal ones the first."""
    drifts = [(v.float() - pretrained[name].to(v).float()).abs().flatten().cpu().numpy() for name, v in victim.items()]
    everything = np.concatenate(drifts) if drifts else np.zeros(0, dtype=np.float32)
    least = np.inf if kept == 0 else np.partition(everything, len(everything) - kept)[len(everything) - kept]
    equal = kept - int(np.count_nonzero(everything > least))
    for drift in drifts:
        ties = np.flatnonzero(drift == least)[:equal]
        mask = drift > least
        mask[ties] = True
        equal -= len(ties)
        yield mask
