"""What the encoders of transformers call their parts, where a pass or a method needs them one by one."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn


class Attention(NamedTuple):
    """The attention of a block.

    Attributes:
        query, key, value: linear layers side by side.
        output: the linear layer behind them.
        output_dropout, norm: what follows: dropout, and the norm of the sum with what entered.
        dropout: of what each token attends to.
        heads, size: how many heads there are, and the dimensions of each.
    """

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    output_dropout: nn.Dropout
    norm: nn.LayerNorm
    dropout: nn.Dropout
    heads: int
    size: int


def attention_of(block: Any) -> Attention:
    """Return the parts of the attention of a block of BERT, RoBERTa or MPNet."""
    outer = block.attention
    if hasattr(outer, "attn"):  # MPNet
        own, last = outer.attn, outer
        layers = (own.q, own.k, own.v, own.o)
    else:
        own, last = outer.self, outer.output
        layers = (own.query, own.key, own.value, last.dense)
    return Attention(
        *layers, last.dropout, last.LayerNorm, own.dropout, own.num_attention_heads, own.attention_head_size
    )


def position_bias(encoder: Any, length: int) -> torch.Tensor | None:
    """Return what an encoder with relative positions adds to attention scores, for all blocks: [1, heads, L, L].

    Args:
        encoder: a model without a head, such as ``model.base_model``.
        length: L, tokens of the longest sequence.
    """
    blocks = encoder.encoder
    if not hasattr(blocks, "relative_attention_bias"):
        return None
    bias: torch.Tensor = blocks.compute_position_bias(blocks.relative_attention_bias.weight.new_empty(1, length))
    return bias
