"""How far weights are from other weights, layer by layer."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch

_LAYER = re.compile(r"\.(?:layers?|h|block)\.(\d+)\.")
_EMBEDDINGS = re.compile(r"embed|\.w[tp]e\.")
PIECE = 1 << 20  # scalars that are compared at once
OTHER = "other"  # the part that is neither embeddings nor a layer; a new pooler may be there
UNRELATED = 80.0  # percent. Unrelated weights are at right angles: they differ by 100 or a little less for equal scales
Read = Callable[[str], torch.Tensor]


@dataclass(frozen=True)
class Part:
    """A part of the model: the embeddings, one layer, or the rest.

    Attributes:
        name: for people.
        distance: norm of the difference.
        relative: distance over the norm of the pre-trained weights, percent.
        share: squared distance as a share of the whole model's, percent.
    """

    name: str
    distance: float
    relative: float
    share: float


def part_of(name: str) -> str:
    """Return the part that a parameter belongs to."""
    if layer := _LAYER.search(name):
        return f"layer {int(layer[1]) + 1}"
    return "embeddings" if _EMBEDDINGS.search(name) else OTHER


def profile(names: Iterable[str], model: Read, pretrained: Mapping[str, torch.Tensor]) -> list[Part]:
    """Return the drift of every part from the pre-trained weights, lowest layer first."""
    moved: dict[str, float] = defaultdict(float)
    size: dict[str, float] = defaultdict(float)
    for name in names:
        clean, part = pretrained[name], part_of(name)
        moved[part] += float((model(name).detach().cpu().float() - clean).norm()) ** 2
        size[part] += float(clean.norm()) ** 2
    total = sum(moved.values())
    return [
        Part(
            name,
            moved[name] ** 0.5,
            100.0 * (moved[name] / size[name]) ** 0.5 if size[name] else 0.0,
            100.0 * moved[name] / total if total else 0.0,
        )
        for name in sorted(moved, key=_place)
    ]


def _place(name: str) -> tuple[int, int]:
    kind, _, number = name.partition(" ")
    return ({"embeddings": 0, "layer": 1}.get(kind, 2), int(number or 0))


def stranger(parts: Sequence[Part]) -> str | None:
    """Return why weights with this drift do not come from the pre-trained ones, or None.

    The drift of the part in the middle decides, so that an attack on one layer does not look like another model.
    """
    if not any(part.distance for part in parts):
        return (
            "no weight differs: it is the same model, or only a head was trained on it. Name the model that yours was "
            "fine-tuned from, or leave --pretrained out"
        )
    inner = [part.relative for part in parts if part.name != OTHER] or [part.relative for part in parts]
    middle = median(inner)
    if middle < UNRELATED:
        return None
    return (
        f"its weights differ by {middle:.0f} %; fine-tuning moves them by a few percent, and those of another training "
        "differ by 100 % or more"
    )


@dataclass(frozen=True)
class Changes:
    """How many scalars of a part differ between two models."""

    name: str
    changed: int
    total: int


def changes(names: Iterable[str], before: Read, after: Read) -> list[Changes]:
    """Return the number of scalars that differ, part by part; the head counts as ``other``."""
    changed: dict[str, int] = defaultdict(int)
    total: dict[str, int] = defaultdict(int)
    for name in names:
        one, other = before(name).flatten(), after(name).flatten()
        starts = range(0, one.numel(), PIECE)
        changed[part_of(name)] += sum(int((one[at : at + PIECE] != other[at : at + PIECE]).sum()) for at in starts)
        total[part_of(name)] += one.numel()
    return [Changes(name, changed[name], total[name]) for name in sorted(total, key=_place)]
