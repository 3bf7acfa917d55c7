"""BERT, RoBERTa and MPNet classifiers without padding: what the model's own pass computes, several times faster.

Tokens of all sequences lie one after the other; only attention sees a grid of [sequences, longest]. Of the last
layer only the first token is computed where nothing else is wanted, as by the head. Weights stay the model's own, so
this can be used or not at any moment. Activations between the matrix products are float32, as under torch's autocast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Required, TypedDict, Unpack

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from bench.contracts.examples import IntArray
from bench.learning.architectures import Attention, attention_of, position_bias
from bench.learning.tokens import Encoded

ARCHITECTURES = {
    "BertForSequenceClassification": "transformers.models.bert.modeling_bert",
    "MPNetForSequenceClassification": "transformers.models.mpnet.modeling_mpnet",
    "RobertaForSequenceClassification": "transformers.models.roberta.modeling_roberta",
}
_PLAIN = {
    f"torch.nn.modules.{name}" for name in ("linear", "sparse", "normalization", "dropout", "container", "activation")
}
_PLAIN |= {"transformers.activations"}
Edit = Callable[[int, torch.Tensor], torch.Tensor]


def supports(model: nn.Module) -> bool:
    """Whether this module computes what ``model`` would: a known architecture, without hooks or replaced parts."""
    home = ARCHITECTURES.get(type(model).__name__)
    config: Any = getattr(model, "config", None)
    if home is None or type(model).__module__ != home or config.hidden_act != "gelu":
        return False
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        return False
    if model.base_model.embeddings.position_embeddings is None:  # type: ignore[union-attr]
        return False
    return untouched(model, home)


def untouched(model: nn.Module, home: str) -> bool:
    """Whether all parts of a model are torch's or of its own module, without hooks that act or replaced passes."""
    return all(
        _own_type(part).__module__ in {home, *_PLAIN}
        and not any(_acts(hook) for hooks in _hooks(part) for hook in hooks.values())
        and "forward" not in vars(part)
        for name, part in model.named_modules()
        if "parametrizations" not in name.split(".")
    )


def _own_type(part: nn.Module) -> type:
    """Return the class of a part; of one with parametrised weights, which are read like plain ones, the plain class."""
    return type(part).__bases__[0] if parametrize.is_parametrized(part) else type(part)


def _hooks(part: nn.Module) -> tuple[Mapping[int, Any], ...]:
    return part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks


def _acts(hook: Any) -> bool:
    """Whether a hook may do something; those that transformers leaves behind sleep until hidden states are wanted."""
    return getattr(hook, "__module__", None) != "transformers.utils.output_capturing"


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


def logits(model: Any, batch: Packed, *, whole: bool = False, **options: Unpack[Options]) -> torch.Tensor:
    """Return float32 logits [B, classes], as ``model(...)`` would for the same sequences with padding.

    Args:
        model: a supported model.
        batch: its inputs.
        whole: compute the last layer for every token, which changes nothing but what an edit sees.
        options: see :class:`Options`.
    """
    encoder, forward = model.base_model, _ForwardPass(**options)
    x = forward.encode(encoder, batch, whole=whole)
    if whole:
        x = x.index_select(0, batch.first)
    if encoder.pooler is not None:  # BERT; the others have a head with a layer of its own
        x = forward.drop(torch.tanh(forward.linear(x, encoder.pooler.dense).float()), model.dropout)
        return forward.linear(x, model.classifier).float()
    head = model.classifier
    x = torch.tanh(forward.linear(forward.drop(x, head.dropout), head.dense).float())
    return forward.linear(forward.drop(x, head.dropout), head.out_proj).float()


def first_token_last_block(model: Any, batch: Packed, **options: Unpack[Options]) -> torch.Tensor:
    """Return the last state of the first token of each sequence, float32 [B, hidden]; see :func:`logits`."""
    return _ForwardPass(**options).encode(model.base_model, batch, whole=False)


def states(model: Any, batch: Packed, **options: Unpack[Options]) -> torch.Tensor:
    """Return the last state of every token, float32 [T, hidden], of one sequence after the other."""
    return _ForwardPass(**options).encode(model.base_model, batch, whole=True)


@dataclass(frozen=True)
class _ForwardPass:
    """One forward pass; its attributes are :class:`Options`."""

    dtype: torch.dtype
    words: torch.Tensor | None = None
    noise: Noise | None = None
    edit: Edit | None = None

    def encode(self, encoder: Any, batch: Packed, *, whole: bool) -> torch.Tensor:
        """Return the last states: of all tokens, or of the first of each sequence."""
        x, bias = self.embed(encoder.embeddings, batch), self.bias(encoder, batch)
        *lower, last = encoder.encoder.layer
        for number, layer in enumerate(lower):
            x = self.edited(number, x)
            x = self.layer(layer, x, x, batch, bias)
        x = self.edited(len(lower), x)
        x = self.layer(last, x if whole else x.index_select(0, batch.first), x, batch, bias)
        return self.edited(len(lower) + 1, x)

    def edited(self, number: int, x: torch.Tensor) -> torch.Tensor:
        return x if self.edit is None else self.edit(number, x)

    def drop(self, x: torch.Tensor, module: nn.Dropout) -> torch.Tensor:
        return x if self.noise is None else self.noise(x, module.p)

    def linear(self, x: torch.Tensor, *modules: nn.Linear) -> torch.Tensor:
        """Apply linear layers to the same input with one matrix product; their outputs lie side by side."""
        weight = modules[0].weight if len(modules) == 1 else torch.cat([module.weight for module in modules])
        bias = modules[0].bias if len(modules) == 1 else torch.cat([module.bias for module in modules])
        return functional.linear(x.to(self.dtype), weight.to(self.dtype), bias.to(self.dtype))

    def norm(self, x: torch.Tensor, module: nn.LayerNorm) -> torch.Tensor:
        return functional.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)

    def embed(self, module: Any, batch: Packed) -> torch.Tensor:
        x = functional.embedding(batch.ids, module.word_embeddings.weight if self.words is None else self.words)
        if hasattr(module, "token_type_embeddings"):
            x = x + module.token_type_embeddings(batch.types)
        x = x + module.position_embeddings(batch.positions)
        return self.drop(self.norm(x, module.LayerNorm), module.dropout)

    def bias(self, encoder: Any, batch: Packed) -> torch.Tensor | None:
        """Return what is added to attention scores, mask included: [1 or B, 1 or heads, 1 or L, L]; None if nothing."""
        relative = position_bias(encoder, batch.shape[1])
        if relative is None or batch.mask is None:
            return batch.mask if relative is None else relative
        return relative + batch.mask

    def layer(
        self, module: Any, x: torch.Tensor, context: torch.Tensor, batch: Packed, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the layer's output for ``x``: all tokens (``x`` is ``context``) or the first of each sequence."""
        attention = attention_of(module)
        seen = self.linear(self.attend(attention, x, context, batch, bias), attention.output)
        x = self.norm(x + self.drop(seen.float(), attention.output_dropout), attention.norm)
        inner = functional.gelu(self.linear(x, module.intermediate.dense))
        outer = self.linear(inner, module.output.dense).float()
        return self.norm(x + self.drop(outer, module.output.dropout), module.output.LayerNorm)

    def attend(
        self, module: Attention, x: torch.Tensor, context: torch.Tensor, batch: Packed, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Return [len(x), hidden]: what the tokens of ``x`` see in their sequences."""
        heads, size = module.heads, module.size
        if x is context:
            q, k, v = self.grid(self.linear(x, module.query, module.key, module.value), 3, heads, batch)
        else:
            q = self.linear(x, module.query).view(-1, 1, heads, size).transpose(1, 2)
            k, v = self.grid(self.linear(context, module.key, module.value), 2, heads, batch)
            bias = None if bias is None else bias[:, :, :1]
        rate = 0.0 if self.noise is None else module.dropout.p
        if x.device.type != "cpu":
            mask = None if bias is None else bias.to(self.dtype)
            seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
        else:  # for short sequences on a CPU, plain products are much faster than the fused kernel's backward pass
            scores = torch.matmul(q * (1 / math.sqrt(size)), k.transpose(-1, -2)).float()
            shares = torch.softmax(scores if bias is None else scores + bias, dim=-1)
            shares = shares if self.noise is None else self.noise(shares, rate)
            seen = torch.matmul(shares.to(self.dtype), v)
        flat = seen.transpose(1, 2).reshape(-1, heads * size)
        return flat if x is not context or batch.places is None else flat.index_select(0, batch.places)

    def grid(self, flat: torch.Tensor, parts: int, heads: int, batch: Packed) -> tuple[torch.Tensor, ...]:
        """Return ``parts`` tensors of shape [B, heads, L, size] from [T, parts * heads * size]."""
        count, longest = batch.shape
        if batch.places is not None:
            flat = flat.new_zeros(count * longest, flat.shape[1]).index_copy(0, batch.places, flat)
        return flat.view(count, longest, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
