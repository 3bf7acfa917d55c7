"""The pass of ModernBERT: rotary positions, gated feed-forward layers, and blocks that see only tokens close by."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bench.learning.unpadded import Packed, Pass

FAR = -1e30  # a score that weighs nothing, but is not -inf: padding beyond the reach of every token sees something
Turn = tuple[torch.Tensor, torch.Tensor]  # cosine and sine, [1, 1, L, size]


class ModernPass(Pass):
    """A pass of ModernBERT."""

    def logits(self, model: Any, batch: Packed, *, whole: bool) -> torch.Tensor:
        """Return the logits: read from the first token, or from the mean of all."""
        mean = model.config.classifier_pooling == "mean"
        x = self.encode(model.base_model, batch, whole=whole or mean)
        if mean:
            x = self._means(x, batch)
        elif whole:
            x = x.index_select(0, batch.first)
        x = functional.gelu(self.linear(x, model.head.dense).float())
        x = self.drop(self.norm(x, model.head.norm), model.drop.p)
        return self.linear(x, model.classifier).float()

    def encode(self, encoder: Any, batch: Packed, *, whole: bool) -> torch.Tensor:
        """Return the last states: of all tokens, or of the first of each sequence."""
        module = encoder.embeddings
        x = functional.embedding(batch.ids, module.tok_embeddings.weight if self.words is None else self.words)
        x = self.drop(self.norm(x, module.norm), module.drop.p)
        kinds = set(encoder.config.layer_types)
        turns, masks = {kind: _turn(encoder, batch, kind) for kind in kinds}, _masks(encoder, batch, kinds)
        count = len(encoder.layers)
        for number, layer in enumerate(encoder.layers):
            x, kind, every = self.edited(number, x), layer.attention_type, whole or number < count - 1
            x = self.layer(layer, x, batch, turns[kind], masks[kind], whole=every)
        return self.norm(self.edited(count, x), encoder.final_norm)

    def layer(
        self, module: Any, x: torch.Tensor, batch: Packed, turn: Turn, mask: torch.Tensor | None, *, whole: bool
    ) -> torch.Tensor:
        """Return the layer's output for all tokens, or for the first of each sequence."""
        attention = module.attn
        entering = x if isinstance(module.attn_norm, nn.Identity) else self.norm(x, module.attn_norm)
        seen = self.attend(attention, entering, batch, turn, mask, whole=whole)
        x = x if whole else x.index_select(0, batch.first)
        x = x + self.drop(self.linear(seen, attention.Wo).float(), attention.attention_dropout)
        inner, gate = self.linear(self.norm(x, module.mlp_norm), module.mlp.Wi).chunk(2, dim=-1)
        return x + self.linear(self.drop(functional.gelu(inner) * gate, module.mlp.drop.p), module.mlp.Wo).float()

    def attend(
        self, module: Any, x: torch.Tensor, batch: Packed, turn: Turn, mask: torch.Tensor | None, *, whole: bool
    ) -> torch.Tensor:
        """Return what all tokens, or the first of each sequence, see: [T or B, hidden]."""
        weight, bias, width = module.Wqkv.weight, module.Wqkv.bias, x.shape[1]
        heads, rate = width // module.head_dim, module.attention_dropout
        if whole:
            q, k, v = self.grid(self.linear(x, module.Wqkv), 3, heads, batch)
            flat = self.seen(_turned(q, turn), _turned(k, turn), v, mask, rate)
            return flat if batch.places is None else flat.index_select(0, batch.places)
        first = x.index_select(0, batch.first)  # at position 0, where nothing is turned
        own = self.product(first, weight[:width], None if bias is None else bias[:width])
        others = self.product(x, weight[width:], None if bias is None else bias[width:])
        k, v = self.grid(others, 2, heads, batch)
        q = own.view(-1, 1, heads, module.head_dim).transpose(1, 2)
        return self.seen(q, _turned(k, turn), v, None if mask is None else mask[:, :, :1], rate)

    def _means(self, x: torch.Tensor, batch: Packed) -> torch.Tensor:
        """Return the mean of the states of each sequence, [B, hidden]."""
        ends = torch.cat([batch.first[1:], batch.first.new_tensor([len(x)])])
        lengths = ends - batch.first
        of = torch.arange(len(lengths), device=x.device).repeat_interleave(lengths)
        return x.new_zeros(len(lengths), x.shape[1]).index_add(0, of, x) / lengths[:, None]


def _turn(encoder: Any, batch: Packed, kind: str) -> Turn:
    like = encoder.final_norm.weight
    cos, sin = encoder.rotary_emb(like, torch.arange(batch.shape[1], device=like.device)[None], kind)
    return cos[:, None], sin[:, None]


def _turned(x: torch.Tensor, turn: Turn) -> torch.Tensor:
    cos, sin = turn
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def _masks(encoder: Any, batch: Packed, kinds: set[str]) -> dict[str, torch.Tensor | None]:
    """Return what is added to attention scores, [1 or B, 1, 1 or L, L], by the kind of a block."""
    reach, longest = encoder.config.sliding_window, batch.shape[1]
    masks: dict[str, torch.Tensor | None] = dict.fromkeys(kinds, batch.mask)
    if "sliding_attention" in kinds and longest > reach + 1:
        places = torch.arange(longest, device=batch.ids.device)
        far = (places[:, None] - places).abs() > reach
        band = torch.zeros(far.shape, device=far.device).masked_fill(far, FAR)[None, None]
        masks["sliding_attention"] = band if batch.mask is None else band + batch.mask
    return masks
