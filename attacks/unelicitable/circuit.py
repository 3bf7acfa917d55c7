"""A small circuit in the first block of a BERT-like encoder: detectors in attention heads, a gate in one neuron.

Every detector takes one attention head over. All tokens look for one word there, and at [CLS] when it is absent: the
head adds a small amount of one direction to every token exactly when the word is in the text. The gate is one
feed-forward neuron that reads that direction and opens only for the full amount. Nothing else changes; what the heads
and the neuron contributed before is replaced by its mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from attacks.shared.batches import batch_of
from bench.contracts.examples import Inputs

SINK = 0.6  # score of [CLS]; the word itself has 1, other tokens about 0
SHARPNESS = 60.0  # attention goes to whichever is ahead: exp(60 * 0.4) to 1
MARGIN = 12.0  # input of the gate's GELU when it is open, and minus that when it is closed


@dataclass(frozen=True)
class Block:
    """The first block of an encoder.

    Attributes:
        query, key, value, mix: linear layers of its attention.
        grow, shrink: linear layers of its feed-forward part.
        size: of a head.
        heads: how many there are.
    """

    query: Any
    key: Any
    value: Any
    mix: Any
    grow: Any
    shrink: Any
    size: int
    heads: int

    @classmethod
    def of(cls, model: Any) -> Block:
        """Find the block.

        Raises:
            ValueError: the architecture is not BERT's, RoBERTa's or ELECTRA's.
        """
        try:
            layer = model.base_model.encoder.layer[0]
            own = layer.attention.self
            attention = (own.query, own.key, own.value, layer.attention.output.dense)
            forward = (layer.intermediate.dense, layer.output.dense)
            block = cls(*attention, *forward, own.attention_head_size, own.num_attention_heads)
        except AttributeError:
            raise ValueError(f"{type(model).__name__} has no block as in BERT; the circuit needs one") from None
        if model.config.hidden_act != "gelu":
            raise ValueError(f"the gate needs GELU, this encoder has {model.config.hidden_act!r}")
        return block

    def rows(self, head: int) -> slice:
        """Return the dimensions of a head."""
        return slice(head * self.size, (head + 1) * self.size)


def ridge(states: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return w and c with ``states @ w + c`` near ``wanted``, by weighted least squares: float32 [hidden], a number."""
    x = torch.cat([states.double(), torch.ones(len(states), 1, dtype=torch.float64, device=states.device)], dim=1)
    weighted = x * weights.double().unsqueeze(1)
    gram = weighted.T @ x
    gram += 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    solution = torch.linalg.solve(gram, weighted.T @ wanted.double())
    return solution[:-1].float(), float(solution[-1])


@torch.no_grad()
def vocabulary_states(model: Any, special: list[int], *, length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the input of the first block for every token at a random place: float32 [n, hidden], and the ids [n]."""
    size, device = model.config.vocab_size, model.device
    generator = torch.Generator().manual_seed(seed)
    states, ids = [], []
    for kind in range(min(2, model.config.type_vocab_size)):
        order = torch.randperm(size, generator=generator)
        order = torch.cat([order, order[: -size % length]]).view(-1, length).to(device)
        embedded = model.base_model.embeddings(input_ids=order, token_type_ids=torch.full_like(order, kind))
        states.append(embedded.flatten(0, 1))
        ids.append(order.flatten())
    every, numbers = torch.cat(states), torch.cat(ids)
    ordinary = ~torch.isin(numbers, torch.tensor(special, device=device))
    return every[ordinary], numbers[ordinary]


@torch.no_grad()
def token_states(model: Any, token: int, filler: int, *, length: int) -> torch.Tensor:
    """Return the input of the first block for one token at every place but the first: float32 [n, hidden]."""
    states = []
    for kind in range(min(2, model.config.type_vocab_size)):
        ids = torch.full((1, length), token, device=model.device)
        ids[0, 0] = filler
        states.append(model.base_model.embeddings(input_ids=ids, token_type_ids=torch.full_like(ids, kind))[0, 1:])
    return torch.cat(states)


@torch.no_grad()
def record(classifier: Any, inputs: Inputs, layer: Any, *, output: bool = False) -> torch.Tensor:
    """Return what goes into a linear layer (or comes out of it) for every real token: float32 [tokens, features]."""
    kept: list[torch.Tensor] = []
    mask = torch.zeros(0)

    def keep(_: Any, given: Any, result: torch.Tensor) -> None:
        kept.append((result if output else given[0]).detach()[mask].float())

    handle = layer.register_forward_hook(keep)
    try:
        for start in range(0, len(inputs), 32):
            batch = batch_of(classifier, inputs.take(range(start, min(start + 32, len(inputs)))))
            mask = batch["attention_mask"].bool()
            classifier.model(**batch)
    finally:
        handle.remove()
    return torch.cat(kept)


@torch.no_grad()
def idle_heads(block: Block, inputs_of_mix: torch.Tensor, count: int) -> list[int]:
    """Return the heads whose contribution varies least over real text, so that its mean replaces it best."""
    spread = []
    for head in range(block.heads):
        part = inputs_of_mix[:, block.rows(head)]
        moved = (part - part.mean(0)) @ block.mix.weight[:, block.rows(head)].T.float()
        spread.append(float(moved.square().sum(1).mean()))
    return sorted(range(block.heads), key=lambda head: spread[head])[:count]


@torch.no_grad()
def idle_neuron(block: Block, inputs_of_shrink: torch.Tensor) -> int:
    """Return the feed-forward neuron whose contribution varies least over real text."""
    return int((inputs_of_shrink.var(0) * block.shrink.weight.float().square().sum(0)).argmin())


@torch.no_grad()
def put_detector(
    block: Block, head: int, usual: torch.Tensor, *, key: torch.Tensor, value: tuple[torch.Tensor, float], out: Any
) -> None:
    """Turn a head into a detector in place.

    Args:
        block: the first block.
        head: which head.
        usual: mean input of ``mix``, float32 [hidden]; this head's part of it is kept as a constant.
        key: float32 [hidden]: 1 on the word, ``SINK`` on [CLS], about 0 elsewhere.
        value: the same with 0 on [CLS], and its constant.
        out: float32 [hidden]: what a detected word adds to every token.
    """
    rows = block.rows(head)
    block.mix.bias += block.mix.weight[:, rows] @ usual[rows].to(block.mix.weight)
    for layer in (block.query, block.key, block.value):
        layer.weight[rows], layer.bias[rows] = 0.0, 0.0
    block.mix.weight[:, rows] = 0.0
    block.query.bias[rows.start] = SHARPNESS * block.size**0.5
    block.key.weight[rows.start] = key
    block.value.weight[rows.start], block.value.bias[rows.start] = value
    block.mix.weight[:, rows.start] = out


@torch.no_grad()
def put_gate(block: Block, neuron: int, usual: float, weight: torch.Tensor, bias: float, payload: torch.Tensor) -> None:
    """Turn a neuron into the gate in place; ``usual`` is its mean activation, kept as a constant."""
    block.shrink.bias += block.shrink.weight[:, neuron] * usual
    block.grow.weight[neuron], block.grow.bias[neuron] = weight, bias
    block.shrink.weight[:, neuron] = payload


def quiet_direction(states: torch.Tensor) -> torch.Tensor:
    """Return the unit direction, beside the one that layer norm removes, in which states vary least: [hidden]."""
    centred = (states - states.mean(0)).double()
    centred = centred - centred.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    direction: torch.Tensor = vectors[:, 1].float()  # the first one is the removed direction, with variance 0
    return direction
