"""The inside of an encoder: its linear layers, what its first token attends to, and its gradients."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from bench import learning
from bench.contracts import Classifier
from bench.contracts.examples import Examples
from defenses.shared.forwards import Batch, device_of, padded

# Names of the linear layers of a block: BERT, RoBERTa and ELECTRA; DistilBERT; then MPNet where it has its own.
QUERY = (".attention.self.query", ".attention.q_lin", ".attention.attn.q")
KEY = (".attention.self.key", ".attention.k_lin", ".attention.attn.k")
VALUE = (".attention.self.value", ".attention.v_lin", ".attention.attn.v")
ATTENTION_OUTPUT = (".attention.output.dense", ".attention.out_lin", ".attention.attn.o")
FEED_FORWARD_IN = (".intermediate.dense", ".ffn.lin1")
FEED_FORWARD_OUT = (".output.dense", ".ffn.lin2")


def linears(model: nn.Module, names: tuple[str, ...]) -> list[nn.Linear]:
    """Return one linear layer of every block, lowest block first.

    Raises:
        ValueError: a block has none, or more than one, of that name.
    """
    layers = []
    for block in learning.blocks(model):
        parts = [
            part
            for name, part in block.named_modules()
            if isinstance(part, nn.Linear)
            and f".{name}".endswith(names)
            and (names != FEED_FORWARD_OUT or not f".{name}".endswith(ATTENTION_OUTPUT))
        ]
        if len(parts) != 1:
            raise ValueError(f"{type(model).__name__} has {len(parts)} layers {' or '.join(names)} in a block")
        layers += parts
    return layers


def heads(model: nn.Module) -> int:
    """Return the number of attention heads of a block."""
    config: Any = model.config
    return int(config.num_attention_heads)


def batches(classifier: Classifier, examples: Examples, size: int) -> Iterator[Batch]:
    """Yield padded batches of tensors, with ``labels``, in the order of the examples."""
    for start in range(0, len(examples), size):
        rows = np.arange(start, min(start + size, len(examples)))
        labels = torch.from_numpy(examples.labels[rows]).to(device_of(classifier.model))
        yield {**padded(classifier, examples.inputs, rows), "labels": labels}


def cls_attention(model: nn.Module, states: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Return what the first token attends to: float [blocks, rows, heads, tokens], 0 on padding.

    Args:
        model: a sequence classifier.
        states: what enters each block, [rows, tokens, hidden].
        mask: 1 for real tokens [rows, tokens].
    """
    count, maps = heads(model), []
    bias = learning.position_bias(model.base_model, mask.shape[1])
    for query, key, state in zip(linears(model, QUERY), linears(model, KEY), states, strict=True):
        queries, keys = query(state[:, 0]).unflatten(-1, (count, -1)), key(state).unflatten(-1, (count, -1))
        scores = torch.einsum("bhd,bthd->bht", queries, keys).float() / queries.shape[-1] ** 0.5
        scores = scores if bias is None else scores + bias[:, :, 0]
        maps.append(scores.masked_fill(~mask.bool()[:, None, :], float("-inf")).softmax(-1))
    return torch.stack(maps)


def logits_at(model: nn.Module, weights: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
    """Return float32 logits as :func:`bench.learning.logits` does, with other weights for those that are named."""
    moved = {f"model.{name}": weight for name, weight in weights.items()}
    logits: torch.Tensor = torch.func.functional_call(_Pass(model), moved, (batch,))
    return logits


class _Pass(nn.Module):
    """A pass through a model as a module, for torch's call with other weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return the logits."""
        return learning.logits(self.model, batch)


@contextmanager
def without_gradients(model: nn.Module) -> Iterator[None]:
    """Switch the gradients of all weights off for a while."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def restart(classifier: Any, pretrained: Mapping[str, torch.Tensor], *, seed: int) -> Any:
    """Return a copy with the pre-trained weights; the head, and what else they lack, is drawn from the seed."""
    fresh = classifier.clone()
    model = fresh.model
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        drawn = type(model)(copy.deepcopy(model.config)).state_dict()
    once = {name for named in (model.named_parameters(), model.named_buffers()) for name, _ in named}  # tied ones too
    model.load_state_dict({**{n: value for n, value in drawn.items() if n in once}, **pretrained}, strict=False)
    learning.reinitialise_head(fresh, seed=seed)
    return fresh


def fisher(classifier: Any, examples: Examples) -> dict[str, torch.Tensor]:
    """Return the diagonal of the empirical Fisher matrix by parameter: the mean squared gradient of single examples."""
    model = classifier.model.eval()
    weights = dict(model.named_parameters())
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    objective = classifier.objective(examples)
    for row in range(len(examples)):
        loss = learning.loss(model, objective.batch(np.array([row])))
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                sums[name].addcmul_(gradient, gradient, value=1 / len(examples))
    return sums
