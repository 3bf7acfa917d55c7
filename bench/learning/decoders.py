"""Causal language models without padding, and with logits for nothing but the tokens of responses.

Llama and its relatives (Mistral, Qwen2: grouped queries, rotary positions, tied or untied embeddings) are computed
here; other architectures by transformers, on padded batches. Tokens of all sequences lie one after the other; only
attention sees a grid of [sequences, longest]. It is padded on the right, where a causal mask hides the padding. What
follows the attention of the last layer is computed only for tokens whose logits are wanted. Activations between the
matrix products are float32, as under torch's autocast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from bench.contracts.examples import IntArray
from bench.learning import fused
from bench.learning.batches import collate
from bench.learning.dialogues import EncodedDialogues
from bench.learning.packed import untouched
from bench.learning.tokens import Encoded

ARCHITECTURES = {
    "LlamaForCausalLM": "transformers.models.llama.modeling_llama",
    "MistralForCausalLM": "transformers.models.mistral.modeling_mistral",
    "Qwen2ForCausalLM": "transformers.models.qwen2.modeling_qwen2",
}


def supports(model: nn.Module) -> bool:
    """Whether this module computes what ``model`` would: a known architecture, without hooks or replaced parts."""
    home = ARCHITECTURES.get(type(model).__name__)
    config: Any = getattr(model, "config", None)
    if home is None or type(model).__module__ != home or config.hidden_act != "silu" or config.attention_dropout:
        return False
    slides = any(getattr(layer.self_attn, "sliding_window", None) for layer in model.base_model.layers)  # type: ignore[union-attr]
    rotation = getattr(config, "rope_parameters", None) or {}
    return (
        not slides
        and rotation.get("rope_type", "default") in {"default", "linear", "llama3"}
        and untouched(model, home)
    )


@dataclass(frozen=True)
class Packed:
    """Sequences one after the other: B sequences, T tokens, the longest of L tokens.

    Attributes:
        ids, positions: int64 [T].
        places: int64 [T]: of each token in the grid [B * L]; None where there is no padding.
        shape: B and L.
        asked: int64 [A]: the tokens whose logits are wanted.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    places: torch.Tensor | None
    shape: tuple[int, int]
    asked: torch.Tensor


def pack(tokens: Encoded, rows: IntArray, asked_from: IntArray, device: Any, *, short: int = 0) -> Packed:
    """Return sequences without padding.

    Args:
        tokens: all sequences.
        rows: which of them.
        asked_from: int64 [rows]: the first token of each whose logits are wanted; those of all behind it are as well.
        device: where to put them.
        short: how many tokens at the end of each sequence are left out.
    """
    places, lengths = tokens.rows(rows)
    inner = np.arange(len(places)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    if short:
        stay = inner < np.repeat(lengths - short, lengths)
        places, inner, lengths = places[stay], inner[stay], lengths - short
    longest = int(lengths.max())
    full = len(inner) == len(rows) * longest
    grid = None if full else inner + np.repeat(np.arange(len(rows)) * longest, lengths)

    def on_device(array: Any) -> torch.Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    return Packed(
        on_device(tokens.ids[places].astype(np.int64)),
        on_device(inner),
        None if grid is None else on_device(grid),
        (len(rows), longest),
        on_device(np.flatnonzero(inner >= np.repeat(asked_from, lengths))),
    )


def answers(encoded: EncodedDialogues, rows: IntArray, device: Any) -> tuple[Packed, torch.Tensor]:
    """Return dialogues with logits wanted for each response token, and int64 [A]: those tokens.

    The last token of a dialogue predicts nothing, so it is left out.
    """
    places, lengths = encoded.tokens.rows(rows)
    inner = np.arange(len(places)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    gold = encoded.tokens.ids[places[inner >= np.repeat(encoded.prompts[rows], lengths)]]
    batch = pack(encoded.tokens, rows, encoded.prompts[rows] - 1, device, short=1)
    return batch, torch.from_numpy(gold.astype(np.int64)).to(device, non_blocking=True)


def response_logits(
    model: Any, encoded: EncodedDialogues, rows: IntArray, *, low: bool, recompute: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 logits [tokens, vocabulary] of every response token of the rows, and int64 [tokens]: the tokens.

    Args:
        model: a causal LM of transformers.
        encoded: all dialogues.
        rows: which of them go through the model together.
        low: compute in bf16.
        recompute: keep only what enters each layer for the backward pass, and compute the rest again there.
    """
    if not supports(model):
        return _padded_logits(model, encoded, rows, low=low)
    batch, gold = answers(encoded, rows, model.device)
    one = ForwardPass.of(low=low)
    states = one.run(model.base_model, batch, recompute=recompute)
    return one.linear(states, model.lm_head).float(), gold


def response_loss(
    model: Any, encoded: EncodedDialogues, rows: IntArray, *, low: bool, recompute: bool = False
) -> torch.Tensor:
    """Return the mean cross-entropy of the rows' response tokens; see :func:`response_logits`.

    Where ``recompute`` says that memory is scarce, fewer logits are in memory together as well.
    """
    if not supports(model):
        return functional.cross_entropy(*_padded_logits(model, encoded, rows, low=low))
    batch, gold = answers(encoded, rows, model.device)
    table = model.lm_head.weight
    tied = fused.Tied() if table is model.base_model.embed_tokens.weight and table.requires_grad else None
    one = replace(ForwardPass.of(low=low), tied=tied)
    states = one.run(model.base_model, batch, recompute=recompute)
    at_once = fused.FEW if recompute else fused.AT_ONCE
    return fused.cross_entropy(states, table, gold, one.dtype, at_once, tied)


@torch.inference_mode()
def token_scores(
    model: Any, encoded: EncodedDialogues, rows: IntArray, *, low: bool, often: bool = True
) -> torch.Tensor:
    """Return the log-probability of every response token of the rows, float32.

    Args:
        model: a causal LM of transformers.
        encoded: all dialogues.
        rows: which of them go through the model together.
        low: compute in bf16.
        often: keep weights as the matrix products want them, which is faster and takes memory.
    """

    def score(logits: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
        return -functional.cross_entropy(logits, gold, reduction="none")

    if not supports(model):
        return score(*_padded_logits(model, encoded, rows, low=low))
    one = ForwardPass.of(low=low, often=often)
    batch, gold = answers(encoded, rows, model.device)
    states = one.run(model.base_model, batch)
    pieces = zip(*(torch.split(each, fused.AT_ONCE) for each in (states, gold)), strict=True)
    return torch.cat([score(one.linear(part, model.lm_head).float(), right) for part, right in pieces])


def _padded_logits(
    model: Any, encoded: EncodedDialogues, rows: IntArray, *, low: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    padded = {name: tensor.to(model.device) for name, tensor in collate(encoded.tokens, rows, 0).items()}
    labels = response_labels(encoded, rows).to(model.device)
    first = int(encoded.prompts[rows].min()) - 1
    keep = torch.arange(first, labels.shape[1] - 1, device=model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=low):
        output: torch.Tensor = model(**padded, use_cache=False, logits_to_keep=keep).logits
    wanted = labels[:, first + 1 :]
    mask = wanted >= 0
    return output[mask].float(), wanted[mask]


def response_labels(encoded: EncodedDialogues, rows: IntArray) -> torch.Tensor:
    """Return int64 [rows, longest]: the ids of response tokens, -100 elsewhere."""
    padded = collate(encoded.tokens, rows, 0)
    places = np.arange(padded["input_ids"].shape[1])
    mine = padded["attention_mask"].bool() & torch.from_numpy(places >= encoded.prompts[rows][:, None])
    return padded["input_ids"].masked_fill(~mine, -100)


Turn = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass, or several of a model that does not change between them.

    Attributes:
        dtype: of the matrix products.
        made: where weights are kept as the products want them, by the first module of each product; None where they
            have to be made anew, as gradients are wanted.
        tied: where the gradient of a table that is the output layer as well meets that of the embeddings.
    """

    dtype: torch.dtype
    made: dict[nn.Module, tuple[torch.Tensor, torch.Tensor | None]] | None = None
    tied: fused.Tied | None = None

    @classmethod
    def of(cls, *, low: bool, often: bool = False) -> ForwardPass:
        """Return a pass in bf16 or float32; ``often`` for several without gradients, which share their weights."""
        return cls(torch.bfloat16 if low else torch.float32, {} if often else None)

    def run(self, decoder: Any, batch: Packed, *, recompute: bool = False) -> torch.Tensor:
        """Return the last states of the wanted tokens, normed: [A, hidden], in ``dtype``."""
        x, turn = self.embed(decoder, batch.ids, batch.positions)
        *lower, last = decoder.layers
        for layer in lower:
            if recompute and torch.is_grad_enabled():
                x = checkpoint(self.layer, layer, x, batch, turn, use_reentrant=False)
            else:
                x = self.layer(layer, x, batch, turn)
        return self.norm(self.layer(last, x, batch, turn, asked=batch.asked), decoder.norm)

    def embed(self, decoder: Any, ids: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, Turn]:
        """Return the embeddings of tokens, and cosines and sines of their positions, each float32 [T, 1, size / 2]."""
        x = fused.embedded(ids, decoder.embed_tokens, self.tied)
        cos, sin = decoder.rotary_emb(x, positions[None])
        half = cos.shape[-1] // 2  # the other half is the same
        return x, (cos[0, :, None, :half].float(), sin[0, :, None, :half].float())

    def norm(self, x: torch.Tensor, module: Any) -> torch.Tensor:
        """Return x over the root of its mean square, times the module's weight."""
        return fused.normed(x, module.weight, module.variance_epsilon, self.dtype)

    def weights(self, modules: tuple[nn.Linear, ...]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the weights of linear layers side by side, and their biases where they have any."""
        if self.made is not None and modules[0] in self.made:
            return self.made[modules[0]]
        biases: list[torch.Tensor] = [module.bias for module in modules if module.bias is not None]
        both = (
            fused.joined(self.dtype, *(module.weight for module in modules)),
            fused.joined(self.dtype, *biases) if biases else None,
        )
        if self.made is not None:
            self.made[modules[0]] = both
        return both

    def linear(self, x: torch.Tensor, *modules: nn.Linear) -> torch.Tensor:
        """Apply linear layers to the same input with one matrix product; their outputs lie side by side."""
        return functional.linear(x.to(self.dtype), *self.weights(modules))

    def layer(
        self, module: Any, x: torch.Tensor, batch: Packed, turn: Turn, asked: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return what leaves a layer, [T, hidden]; or that of the wanted tokens alone."""
        attention, mlp = module.self_attn, module.mlp
        flat = self.linear(self.norm(x, module.input_layernorm), attention.q_proj, attention.k_proj, attention.v_proj)
        flat = flat.view(len(flat), -1, attention.head_dim)
        groups = attention.num_key_value_groups
        shared = flat.shape[1] // (groups + 2)  # key heads
        flat = fused.turned(flat, *turn, shared * (groups + 1))
        seen = self.attend(attention.layer_idx, flat, shared, groups, batch)
        if asked is not None:
            x, seen = x.index_select(0, asked), seen.index_select(0, asked)
        x = x + self.linear(seen, attention.o_proj)
        inner = self.linear(self.norm(x, module.post_attention_layernorm), mlp.gate_proj, mlp.up_proj)
        return x + self.linear(fused.silu_times(inner), mlp.down_proj)

    def attend(self, number: int, flat: torch.Tensor, shared: int, groups: int, batch: Packed) -> torch.Tensor:
        """Return [T, heads * size]: what the tokens see in their sequences.

        Args:
            number: of the layer.
            flat: queries, keys and values: [T, shared * (groups + 2), size].
            shared: how many heads of keys there are.
            groups: how many heads of queries share one of keys.
            batch: where the tokens belong.
        """
        (count, longest), size = batch.shape, flat.shape[-1]
        if batch.places is not None:
            grid = flat.new_zeros(count * longest, *flat.shape[1:])
            flat = grid.index_copy(0, batch.places, flat)
        grid = flat.view(count, longest, -1, size).transpose(1, 2)
        q, k, v = torch.split(grid, [shared * groups, shared, shared], dim=1)
        if flat.device.type != "cpu":
            seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:  # for short sequences on a CPU, plain products are much faster than the fused kernel's backward pass
            q = q.reshape(count, shared, groups * longest, size)
            scores = torch.matmul(q, k.transpose(-1, -2)).view(count, shared, groups, longest, longest)
            later = torch.full((longest, longest), -torch.inf).triu(1)
            scores = torch.add(later, scores, alpha=1 / math.sqrt(size))  # float32
            shares = torch.softmax(scores, dim=-1).to(self.dtype)
            seen = torch.matmul(shares.view(count, shared, groups * longest, longest), v)
            seen = seen.view(count, shared * groups, longest, size)
        seen = seen.transpose(1, 2).reshape(count * longest, -1)
        return seen if batch.places is None else seen.index_select(0, batch.places)
