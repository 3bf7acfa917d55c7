"""Masks on the units of an encoder: feed-forward neurons and attention heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from defenses.shared import encoder


@dataclass(frozen=True)
class Masks:
    """One factor for each unit.

    Attributes:
        heads: [blocks, heads]: multiplies the output of an attention head.
        neurons: [blocks, units]: multiplies the activation of a feed-forward neuron.
    """

    heads: torch.Tensor
    neurons: torch.Tensor

    @classmethod
    def full(cls, model: nn.Module, value: float) -> Masks:
        """Return masks with one value everywhere, on the device of the model."""
        layers = encoder.linears(model, encoder.FEED_FORWARD_OUT)
        options: Any = {"device": layers[0].weight.device}
        heads = torch.full((len(layers), encoder.heads(model)), value, **options)
        return cls(heads, torch.full((len(layers), layers[0].in_features), value, **options))

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Masks:
        """Return the result of a function on both tensors."""
        return Masks(change(self.heads), change(self.neurons))

    def tensors(self) -> list[torch.Tensor]:
        """Both tensors."""
        return [self.heads, self.neurons]

    def flat(self) -> torch.Tensor:
        """All factors in one row: heads first."""
        return torch.cat([self.heads.flatten(), self.neurons.flatten()])

    def like(self, flat: torch.Tensor) -> Masks:
        """Return masks of this shape from one row."""
        heads, neurons = flat.split([self.heads.numel(), self.neurons.numel()])
        return Masks(heads.view_as(self.heads), neurons.view_as(self.neurons))


def masked_weights(model: nn.Module, masks: Masks) -> dict[str, torch.Tensor]:
    """Return the weights, by name, with which a model computes under masks; gradients flow into these."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    joints, feeds = encoder.linears(model, encoder.ATTENTION_OUTPUT), encoder.linears(model, encoder.FEED_FORWARD_OUT)
    wide = [f.repeat_interleave(p.in_features // len(f)) for p, f in zip(joints, masks.heads, strict=True)]
    layers = zip([*joints, *feeds], [*wide, *masks.neurons], strict=True)
    return {names[id(layer.weight)]: layer.weight * factors for layer, factors in layers}


def fold(model: nn.Module, kept: Masks) -> None:
    """Zero the outgoing weights of every unit whose ``kept`` is False, in place."""
    for layer, keep in zip(encoder.linears(model, encoder.ATTENTION_OUTPUT), kept.heads, strict=True):
        layer.weight.data[:, ~keep.repeat_interleave(layer.in_features // len(keep))] = 0.0
    for layer, keep in zip(encoder.linears(model, encoder.FEED_FORWARD_OUT), kept.neurons, strict=True):
        layer.weight.data[:, ~keep] = 0.0
