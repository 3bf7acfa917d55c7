"""Victims as the difference to their pre-trained weights where that is smaller, exact to the bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.models import delta

if TYPE_CHECKING:
    import torch

    from bench.models.pretrained import PretrainedModel

PLAIN, DIFFERENCE = "model.safetensors", "difference.safetensors"
WORTH = 0.9  # of the plain size; a difference that saves less is not worth the time to undo it


def compact(folder: Path, model: Any, pretrained: PretrainedModel) -> None:
    """Put the difference in place of the weight file that was just written for ``model``, if that is smaller."""
    from safetensors.numpy import load_file

    plain, difference = folder / PLAIN, folder / DIFFERENCE
    delta.save(difference, load_file(plain), _base(model, pretrained))
    small = difference.stat().st_size < WORTH * plain.stat().st_size
    (plain if small else difference).unlink()


def reader(folder: Path, pretrained: PretrainedModel) -> Callable[[Any], Mapping[str, torch.Tensor]] | None:
    """Return how to get the weights back, given a fresh model; None where they are stored plainly."""
    if not (folder / DIFFERENCE).is_file():
        return None

    def read(model: Any) -> Mapping[str, torch.Tensor]:
        import torch

        weights = delta.load(folder / DIFFERENCE, _base(model, pretrained))
        return {name: torch.from_numpy(value) for name, value in weights.items()}

    return read


def _base(model: Any, pretrained: PretrainedModel) -> dict[str, delta.Array]:
    return {name: value.numpy() for name, value in pretrained.encoder_weights(model).items()}
