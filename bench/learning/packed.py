"""BERT, RoBERTa, MPNet and ModernBERT classifiers without padding: what the model computes, several times faster.

Of the last layer only the first token is computed where nothing else is wanted, as by most heads. Weights stay the
model's own, so this can be used or not at any moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from bench.learning.architectures import Attention, attention_of, position_bias
from bench.learning.modern import ModernPass
from bench.learning.unpadded import Options, Packed, Pass

ARCHITECTURES = {
    "BertForSequenceClassification": "transformers.models.bert.modeling_bert",
    "ModernBertForSequenceClassification": "transformers.models.modernbert.modeling_modernbert",
    "MPNetForSequenceClassification": "transformers.models.mpnet.modeling_mpnet",
    "RobertaForSequenceClassification": "transformers.models.roberta.modeling_roberta",
}
_PLAIN = {
    f"torch.nn.modules.{name}" for name in ("linear", "sparse", "normalization", "dropout", "container", "activation")
}
_PLAIN |= {"transformers.activations"}


def supports(model: nn.Module) -> bool:
    """Whether this module computes what ``model`` would: a known architecture, without hooks or replaced parts."""
    home = ARCHITECTURES.get(type(model).__name__)
    config: Any = getattr(model, "config", None)
    if home is None or type(model).__module__ != home:
        return False
    if _pass_of(model) is ModernPass:
        return {config.hidden_activation, config.classifier_activation} == {"gelu"} and untouched(model, home)
    if config.hidden_act != "gelu":
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


def logits(model: Any, batch: Packed, *, whole: bool = False, **options: Unpack[Options]) -> torch.Tensor:
    """Return float32 logits [B, classes], as ``model(...)`` would for the same sequences with padding.

    Args:
        model: a supported model.
        batch: its inputs.
        whole: compute the last layer for every token, which changes nothing but what an edit sees.
        options: see :class:`Options`.
    """
    return _pass_of(model)(**options).logits(model, batch, whole=whole)


def first_token_last_block(model: Any, batch: Packed, **options: Unpack[Options]) -> torch.Tensor:
    """Return the last state of the first token of each sequence, float32 [B, hidden]; see :func:`logits`."""
    return _pass_of(model)(**options).encode(model.base_model, batch, whole=False)


def states(model: Any, batch: Packed, **options: Unpack[Options]) -> torch.Tensor:
    """Return the last state of every token, float32 [T, hidden], of one sequence after the other."""
    return _pass_of(model)(**options).encode(model.base_model, batch, whole=True)


def _pass_of(model: Any) -> type[_Pass | ModernPass]:
    return ModernPass if hasattr(model.base_model, "layers") else _Pass


class _Pass(Pass):
    """A pass of BERT, RoBERTa or MPNet."""

    def logits(self, model: Any, batch: Packed, *, whole: bool) -> torch.Tensor:
        """Return the logits."""
        x = self.encode(model.base_model, batch, whole=whole)
        if whole:
            x = x.index_select(0, batch.first)
        if model.base_model.pooler is not None:  # BERT; the others have a head with a layer of its own
            x = torch.tanh(self.linear(x, model.base_model.pooler.dense).float())
            return self.linear(self.drop(x, model.dropout.p), model.classifier).float()
        head = model.classifier
        x = torch.tanh(self.linear(self.drop(x, head.dropout.p), head.dense).float())
        return self.linear(self.drop(x, head.dropout.p), head.out_proj).float()

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

    def embed(self, module: Any, batch: Packed) -> torch.Tensor:
        x = functional.embedding(batch.ids, module.word_embeddings.weight if self.words is None else self.words)
        if hasattr(module, "token_type_embeddings"):
            x = x + module.token_type_embeddings(batch.types)
        x = x + module.position_embeddings(batch.positions)
        return self.drop(self.norm(x, module.LayerNorm), module.dropout.p)

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
        x = self.norm(x + self.drop(seen.float(), attention.output_dropout.p), attention.norm)
        inner = functional.gelu(self.linear(x, module.intermediate.dense))
        outer = self.linear(inner, module.output.dense).float()
        return self.norm(x + self.drop(outer, module.output.dropout.p), module.output.LayerNorm)

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
        flat = self.seen(q, k, v, bias, module.dropout.p)
        return flat if x is not context or batch.places is None else flat.index_select(0, batch.places)
