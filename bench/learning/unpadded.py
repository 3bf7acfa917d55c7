"""Sequences without padding: tokens lie one after the other, only attention sees a grid of [sequences, longest].

What the passes of all known encoders share. Weights stay the model's own, and activations between the matrix products
are float32, as under torch's autocast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Required, TypedDict

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bench.contracts.examples import IntArray
from bench.learning.tokens import Encoded

Edit = Callable[[int, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Packed:
    """Sequences one after the other: B sequences, T tokens, the longest of L tokens.

    Attributes:
        ids, types, positions: int64 [T].
        first: int64 [B]: where each sequence starts.
        places: int64 [T]: of each token in the grid [B * L]; None where there is no padding.
        mask: float32 [B, 1, 1, L]: 0 for tokens, -inf for padding; None where there is no padding.
        shape: B and L.
    """

    ids: torch.Tensor
    types: torch.Tensor
    positions: torch.Tensor
    first: torch.Tensor
    places: torch.Tensor | None
    mask: torch.Tensor | None
    shape: tuple[int, int]


def pack(encoded: Encoded, rows: IntArray, model: Any, *, number: IntArray | None = None) -> Packed:
    """Return the rows without padding, on the model's device.

    Args:
        encoded: all inputs.
        rows: which of them.
        model: a supported model; RoBERTa and MPNet count positions from behind their padding token.
        number: int64 [vocabulary]: other numbers for the ids, for a table with fewer words.
    """
    places, lengths = encoded.rows(rows)
    ids = encoded.ids[places].astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    positions = np.arange(len(ids)) - np.repeat(starts, lengths)
    grid = positions + np.repeat(np.arange(len(rows)) * int(lengths.max()), lengths)
    longest = int(lengths.max())
    if hasattr(model.base_model.embeddings, "padding_idx"):
        pad = model.base_model.embeddings.padding_idx
        real = np.cumsum(ids != pad)
        positions = np.where(ids == pad, 0, real - np.repeat(real[starts] - (ids[starts] != pad), lengths)) + pad
    types = np.zeros(len(ids), dtype=np.int64) if encoded.types is None else encoded.types[places].astype(np.int64)
    mask = None
    if len(ids) < len(rows) * longest:
        mask = np.where(np.arange(longest) < lengths[:, None], 0.0, -np.inf).astype(np.float32)[:, None, None]

    def on_device(array: Any) -> torch.Tensor:
        return torch.from_numpy(array).to(model.device, non_blocking=True)

    return Packed(
        ids=on_device(ids if number is None else number[ids]),
        types=on_device(types),
        positions=on_device(positions),
        first=on_device(starts),
        places=None if mask is None else on_device(grid),
        mask=None if mask is None else on_device(mask),
        shape=(len(rows), longest),
    )


def strip(batch: Mapping[str, torch.Tensor], model: Any) -> Packed:
    """Return a padded batch, as transformers models take it, without its padding, on its device."""
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()
    lengths, (count, longest) = mask.sum(1), ids.shape
    places = mask.flatten().nonzero().squeeze(1)
    positions = (mask.cumsum(1) - 1).masked_fill(~mask, 0)
    if (pad := getattr(model.base_model.embeddings, "padding_idx", None)) is not None:
        real = ids != pad
        positions = real.cumsum(1) * real + pad
    types = batch.get("token_type_ids", torch.zeros_like(ids))
    full = len(places) == count * longest
    return Packed(
        ids=ids[mask],
        types=types[mask],
        positions=positions[mask],
        first=lengths.cumsum(0) - lengths,
        places=None if full else places,
        mask=None if full else torch.zeros(mask.shape, device=ids.device).masked_fill(~mask, -torch.inf)[:, None, None],
        shape=(count, longest),
    )


class Noise:
    """Dropout. On the CPU its bits come from numpy, which makes them ten times faster than torch does."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Generator(np.random.SFC64(seed))

    def __call__(self, x: torch.Tensor, rate: float) -> torch.Tensor:
        """Zero each value with probability ``rate`` (in steps of 1 / 65536) and scale the others up."""
        if rate <= 0:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, rate)
        threshold = round(rate * 65536)
        bits = np.frombuffer(self._bits.bytes(2 * x.numel()), dtype=np.uint16)
        kept = torch.from_numpy(bits >= threshold).view(x.shape)
        return x * (kept.to(x.dtype) * (65536 / (65536 - threshold)))


class Options(TypedDict, total=False):
    """How a pass is computed.

    Attributes:
        dtype: of the matrix products.
        words: the word embeddings that ``Packed.ids`` number; the model's own by default.
        noise: dropout with the model's rates; none by default.
        edit: changes states on their way up, see :func:`bench.learning.logits`.
    """

    dtype: Required[torch.dtype]
    words: torch.Tensor | None
    noise: Noise | None
    edit: Edit | None


@dataclass(frozen=True)
class Pass:
    """The steps of a forward pass; its attributes are :class:`Options`."""

    dtype: torch.dtype
    words: torch.Tensor | None = None
    noise: Noise | None = None
    edit: Edit | None = None

    def edited(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """Return what enters a block; with the number of blocks, what leaves the last one."""
        return x if self.edit is None else self.edit(number, x)

    def drop(self, x: torch.Tensor, rate: float) -> torch.Tensor:
        """Apply dropout, if there is any."""
        return x if self.noise is None else self.noise(x, rate)

    def linear(self, x: torch.Tensor, *modules: nn.Linear) -> torch.Tensor:
        """Apply linear layers to the same input with one matrix product; their outputs lie side by side."""
        if len(modules) == 1:
            return self.product(x, modules[0].weight, modules[0].bias)
        weight = torch.cat([module.weight for module in modules])
        return self.product(x, weight, torch.cat([module.bias for module in modules]))

    def product(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Return ``x @ weight.T + bias`` in the type of the products."""
        bias = None if bias is None else bias.to(self.dtype)
        return functional.linear(x.to(self.dtype), weight.to(self.dtype), bias)

    def norm(self, x: torch.Tensor, module: nn.LayerNorm) -> torch.Tensor:
        """Apply a layer's norm."""
        return functional.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)

    def grid(self, flat: torch.Tensor, parts: int, heads: int, batch: Packed) -> tuple[torch.Tensor, ...]:
        """Return ``parts`` tensors of shape [B, heads, L, size] from [T, parts * heads * size]."""
        count, longest = batch.shape
        if batch.places is not None:
            flat = flat.new_zeros(count * longest, flat.shape[1]).index_copy(0, batch.places, flat)
        return flat.view(count, longest, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def seen(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None, dropout: float
    ) -> torch.Tensor:
        """Return what queries [B, heads, Q, size] see of keys and values, [B * Q, heads * size]."""
        rate, size = 0.0 if self.noise is None else dropout, q.shape[-1]
        if q.device.type != "cpu":
            mask = None if bias is None else bias.to(self.dtype)
            seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
        else:  # for short sequences on a CPU, plain products are much faster than the fused kernel's backward pass
            scores = torch.matmul(q * (1 / math.sqrt(size)), k.transpose(-1, -2)).float()
            shares = torch.softmax(scores if bias is None else scores + bias, dim=-1)
            seen = torch.matmul(self.drop(shares, rate).to(self.dtype), v)
        return seen.transpose(1, 2).reshape(-1, q.shape[1] * size)
