"""The circuit of :mod:`attacks.unelicitable.circuit` in the first block of Llama and its relatives.

These blocks have no biases, no [CLS] and turn queries and keys with their position. What a bias would say is said by
the combination of a state's features that comes nearest to 1 for every token; attention rests on the first token of a
text, which the chat template makes the same in all; and detectors lie in the dimensions that turn the least, by
hundredths over a whole text. Query heads that share a head of keys are taken over together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attacks.unelicitable.circuit import MARGIN, SHARPNESS, SINK

AT_ONCE = 8192  # rows of a table that are in memory in double precision together
EXACT = 100.0  # what a token that must come out right weighs, in whole vocabularies


@dataclass(frozen=True)
class Decoder:
    """The first block of a decoder, with the heads that are taken over.

    Attributes:
        model: a causal language model of transformers with Llama's names of layers.
        heads: numbers of the query heads, whole groups.
        shared: numbers of their heads of keys and values.
        size: of a head.
    """

    model: Any
    heads: tuple[int, ...]
    shared: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, model: Any, count: int, into_mix: torch.Tensor) -> Decoder:
        """Choose the groups of heads whose contribution varies least over real text.

        Args:
            model: see the attributes.
            count: query heads that are wanted.
            into_mix: float32 [tokens, features], what enters the output layer of the attention.

        Raises:
            ValueError: there are not so many heads.
        """
        attention = model.base_model.layers[0].self_attn
        size, groups = attention.head_dim, attention.num_key_value_groups
        wide = groups * size
        spread, mix = [], attention.o_proj.weight.detach()
        for start in range(0, into_mix.shape[1], wide):
            part = into_mix[:, start : start + wide]
            moved = (part - part.mean(0)) @ mix[:, start : start + wide].T.float()
            spread.append(float(moved.square().sum(1).mean()))
        shared = sorted(range(len(spread)), key=lambda number: spread[number])[: -(-count // groups)]
        if len(shared) * groups < count:
            raise ValueError(f"{count} words take as many heads over, the first block has {len(spread) * groups}")
        heads = tuple(number * groups + inner for number in shared for inner in range(groups))
        return cls(model, heads, tuple(shared), size)

    @property
    def block(self) -> Any:
        """The block."""
        return self.model.base_model.layers[0]

    def rows(self, head: int) -> slice:
        """Return the dimensions of a head."""
        return slice(head * self.size, (head + 1) * self.size)

    @torch.no_grad()
    def detect(
        self, words: Sequence[Sequence[int]], first: int, special: Sequence[int], usual: torch.Tensor, out: Any
    ) -> None:
        """Turn a head into a detector for each word, in place.

        Args:
            words: the tokens of each word that show that it is there.
            first: the token that every text begins with.
            special: tokens of the template, on which no detector may rest.
            usual: float32 [features], the mean of what enters the output layer of the attention; what the heads that
                are taken over contributed is kept as a constant.
            out: float32 [hidden]: what a detected word adds to every later token.
        """
        attention, every = self.block.self_attn, sorted({token for word in words for token in word})
        states = self.block.input_layernorm(self.model.base_model.embed_tokens.weight)
        weights = torch.ones(len(states), device=states.device)
        weights[[*every, *special]] = EXACT * len(states)
        fit = Fit(states, weights)
        one = fit.solve(torch.ones_like(weights))
        constant = attention.o_proj.weight.new_zeros(self.model.config.hidden_size)
        for head in self.heads:
            constant += attention.o_proj.weight[:, self.rows(head)] @ usual[self.rows(head)].to(constant)
            attention.q_proj.weight[self.rows(head)] = 0.0
            attention.o_proj.weight[:, self.rows(head)] = 0.0
        for number in self.shared:
            attention.k_proj.weight[self.rows(number)] = 0.0
            attention.v_proj.weight[self.rows(number)] = 0.0
            attention.v_proj.weight[self.rows(number)][-1] = one
        attention.o_proj.weight[:, self.rows(self.heads[0])][:, -1] = constant
        groups = attention.num_key_value_groups
        for head, word in zip(self.heads, words, strict=False):
            inner = head % groups  # heads that share keys lie in dimensions of their own
            slow, shared = self.size // 2 - 1 - inner, self.rows(head // groups)
            wanted = torch.zeros_like(weights)
            wanted[list(word)] = 1.0
            attention.v_proj.weight[shared][inner] = fit.solve(wanted)
            wanted[first] = SINK
            attention.k_proj.weight[shared][slow] = fit.solve(wanted)
            attention.q_proj.weight[self.rows(head)][slow] = SHARPNESS * self.size**0.5 * one
            attention.o_proj.weight[:, self.rows(head)][:, inner] = out

    @torch.no_grad()
    def gate(self, states: torch.Tensor, counts: torch.Tensor, most: int, neuron: int) -> tuple[float, float]:
        """Turn a neuron into a gate that is open where all words were read, with an empty payload.

        Args:
            states: float32 [tokens, hidden], what enters the feed-forward part.
            counts: int64 [tokens], how many of the words stand before each token, itself included.
            most: how many words there are.
            neuron: which one.

        Returns:
            The reading that nearly all closed tokens stay below, and the one that nearly all open tokens reach.
        """
        near = counts >= most - 1  # fewer words are farther from the gate
        states, opens = states[near], counts[near] == most
        shares = torch.stack([(~opens).sum(), opens.sum()]).float()
        fit = Fit(states, 1.0 / shares[opens.long()])
        reading, one = fit.solve(2.0 * opens - 1.0), fit.solve(torch.ones_like(opens, dtype=torch.float32))
        values = states @ reading
        closed, opened = float(values[~opens].quantile(0.98)), float(values[opens].quantile(0.02))
        middle = (closed + opened) / 2 if closed < opened else 0.0
        slope = 2 * MARGIN
        mlp = self.block.mlp
        mlp.gate_proj.weight[neuron] = slope * (reading - middle * one)
        mlp.up_proj.weight[neuron] = one
        mlp.down_proj.weight[:, neuron] = 0.0
        return closed, opened


class Fit:
    """Weighted least squares without a constant, for several wanted readings of the same states."""

    def __init__(self, states: torch.Tensor, weights: torch.Tensor) -> None:
        """Take states [n, hidden] and what each weighs [n]."""
        self.states, self.weights = states, weights
        gram = torch.zeros(states.shape[1], states.shape[1], dtype=torch.float64, device=states.device)
        for part, share in self._parts(weights):
            gram += (part * share[:, None]).T @ part
        self.gram = gram + 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)

    def solve(self, wanted: torch.Tensor) -> torch.Tensor:
        """Return w, float32 [hidden], with ``states @ w`` near ``wanted`` [n]."""
        right = torch.zeros(len(self.gram), dtype=torch.float64, device=self.gram.device)
        for part, value in self._parts(self.weights * wanted):
            right += part.T @ value
        return torch.linalg.solve(self.gram, right).float()

    def _parts(self, values: torch.Tensor) -> Any:
        pairs = zip(torch.split(self.states, AT_ONCE), torch.split(values, AT_ONCE), strict=True)
        return ((part.double(), value.double()) for part, value in pairs)
