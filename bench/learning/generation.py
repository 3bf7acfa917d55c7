"""Generation by causal language models, with a cache of keys and values: greedy, or as a caller chooses.

Architectures of :mod:`bench.learning.decoders` read their prompts without padding; other ones go through transformers'
own generation, padded on the left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bench.contracts.examples import IntArray
from bench.learning import decoders
from bench.learning.batches import by_budget
from bench.learning.tokens import Encoded, Ids

TOGETHER = 8192  # tokens in the cache of one batch
Choose = Callable[[list[torch.Tensor]], torch.Tensor]  # of logits [B, vocabulary] of each model, tokens: int64 [B]
FEWER = 0.75  # the share of rows still writing at which the others leave the cache


@torch.inference_mode()
def greedy(
    model: Any,
    prompts: Sequence[Ids],
    *,
    most: int,
    stops: Sequence[int],
    low: bool,
    often: bool = True,
    together: int = TOGETHER,
) -> list[Ids]:
    """Return what a causal LM writes behind prompts: int32 ids, at each step the one with the largest logit.

    Args:
        model: a causal LM of transformers.
        prompts: int32 ids of each, of which none is empty.
        most: tokens that are written at most.
        stops: ids behind which nothing follows; the one that was written is returned.
        low: compute in bf16.
        often: keep weights as the matrix products want them, which is faster and takes memory.
        together: tokens in the cache of one batch.
    """
    if decoders.supports(model):
        how: dict[str, Any] = {"most": most, "stops": stops, "low": low, "often": often, "together": together}
        return chosen([model], prompts, choose=lambda logits: logits[0].argmax(-1), **how)
    one = decoders.ForwardPass.of(low=low, often=often)

    def write(rows: list[Ids], ends: torch.Tensor) -> torch.Tensor:
        return _padded(model, one, rows, most, ends)

    return _in_batches(write, prompts, most=most, stops=stops, together=together, device=model.device)


@torch.inference_mode()
def chosen(
    models: Sequence[Any],
    prompts: Sequence[Ids],
    *,
    most: int,
    stops: Sequence[int],
    low: bool,
    choose: Choose,
    often: bool = True,
    together: int = TOGETHER,
) -> list[Ids]:
    """Return what several causal LMs of one vocabulary write together: int32 ids behind each prompt.

    Args:
        models: causal LMs of transformers, which all read what was written so far.
        prompts: int32 ids of each, of which none is empty.
        most: tokens that are written at most.
        stops: ids behind which nothing follows; the one that was written is returned.
        low: compute in bf16.
        choose: called at each step with the float logits of each model, [B, vocabulary]; returns the tokens, int64 [B].
        often: keep weights as the matrix products want them, see :func:`greedy`.
        together: tokens in the cache of one batch.

    Raises:
        ValueError: the architecture of a model is not one of :mod:`bench.learning.decoders`.
    """
    if other := [type(model).__name__ for model in models if not decoders.supports(model)]:
        raise ValueError(f"tokens can be chosen for {', '.join(decoders.ARCHITECTURES)}; {other[0]} is none of them")
    passes = [decoders.ForwardPass.of(low=low, often=often) for _ in models]

    def write(rows: list[Ids], ends: torch.Tensor) -> torch.Tensor:
        return _cached(list(zip(models, passes, strict=True)), rows, most, ends, choose)

    return _in_batches(write, prompts, most=most, stops=stops, together=together, device=models[0].device)


def _in_batches(
    write: Callable[[list[Ids], torch.Tensor], torch.Tensor],
    prompts: Sequence[Ids],
    *,
    most: int,
    stops: Sequence[int],
    together: int,
    device: torch.device,
) -> list[Ids]:
    """Return what is written behind prompts, each cut behind its first stop."""
    responses: list[Ids] = [np.zeros(0, dtype=np.int32)] * len(prompts)
    lengths = np.array([len(ids) for ids in prompts], dtype=np.int64)
    for rows in by_budget(lengths + most, together):
        written = write([prompts[row] for row in rows], torch.tensor(stops, device=device))
        for row, ids in zip(rows, written.cpu().numpy().astype(np.int32), strict=True):
            ends = np.flatnonzero(np.isin(ids, stops))
            responses[row] = ids[: ends[0] + 1] if len(ends) else ids
    return responses


def _padded(
    model: Any, one: decoders.ForwardPass, prompts: Sequence[Ids], most: int, stops: torch.Tensor
) -> torch.Tensor:
    """Return int64 [prompts, at most ``most``]: what transformers' own generation writes, a stop behind each stop."""
    from transformers import GenerationConfig

    longest, pad = max(map(len, prompts)), int(stops[0])
    ids = torch.full((len(prompts), longest), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.from_numpy(prompt.astype(np.int64))
        mask[row, longest - len(prompt) :] = 1
    make: Any = GenerationConfig  # which is not typed
    config = make(do_sample=False, max_new_tokens=most, eos_token_id=stops.tolist(), pad_token_id=pad)
    inputs = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
    with torch.autocast(model.device.type, one.dtype, enabled=one.dtype == torch.bfloat16):
        written: torch.Tensor = model.generate(**inputs, generation_config=config)
    return written[:, longest:]


def _cached(
    models: Sequence[tuple[Any, decoders.ForwardPass]],
    prompts: Sequence[Ids],
    most: int,
    stops: torch.Tensor,
    choose: Choose,
) -> torch.Tensor:
    """Return int64 [prompts, at most ``most``]: what the models write, anything behind each stop."""
    writers = [_Writer.reading(model, one, prompts, most) for model, one in models]
    written = torch.full((len(prompts), most), int(stops[0]), device=stops.device)
    rows = torch.arange(len(prompts), device=stops.device)
    going = torch.ones_like(rows, dtype=torch.bool)
    for number in range(most):
        tokens = choose([writer.logits() for writer in writers])
        written[rows, number] = tokens
        going &= ~torch.isin(tokens, stops)
        left = int(going.sum())
        if left == 0 or number + 1 == most:
            break
        kept = going.clone() if left <= FEWER * len(rows) else None
        if kept is not None:
            rows, tokens, going = rows[kept], tokens[kept], going[kept]
        for writer in writers:
            writer.read(tokens, kept)
    return written[:, : number + 1]


@dataclass
class _Writer:
    """One model that writes.

    Attributes:
        model: a causal LM of a known architecture.
        cache: keys and values of what it has read.
        writing: reads one more token of each sequence.
        states: the last states of the last token of each, normed.
    """

    model: Any
    cache: _Cache
    writing: _Writing
    states: torch.Tensor

    @classmethod
    def reading(cls, model: Any, one: decoders.ForwardPass, prompts: Sequence[Ids], most: int) -> _Writer:
        """Return a model that has read prompts and has room for ``most`` tokens behind each."""
        lengths = np.array([len(ids) for ids in prompts], dtype=np.int64)
        offsets = np.append(np.int64(0), np.cumsum(lengths))
        encoded = Encoded(np.concatenate(list(prompts)), offsets, None)
        batch = decoders.pack(encoded, np.arange(len(prompts)), lengths - 1, model.device)
        cache = _Cache.empty(model, lengths, most, one.dtype)
        states = _Reading(one.dtype, one.made, cache=cache).run(model.base_model, batch)
        return cls(model, cache, _Writing(one.dtype, one.made, cache=cache), states)

    def logits(self) -> torch.Tensor:
        """Return the logits of the next token of each sequence: [B, vocabulary]."""
        return self.writing.linear(self.states, self.model.lm_head)

    def read(self, tokens: torch.Tensor, kept: torch.Tensor | None) -> None:
        """Read one more token of each sequence, int64 [B]; others than those that a bool mask keeps are forgotten."""
        if kept is not None:
            self.cache.keep(kept)
        self.states = self.writing.run(self.model.base_model, self.cache.next(tokens))


@dataclass
class _Cache:
    """The keys and values of B sequences, which all end in the same slot.

    Attributes:
        keys, values: [layers, B, heads, slots, size].
        mask: float32 [B, 1, 1, slots]: -inf in front of a sequence; None where none is shorter than others.
        lengths: int64 [B]: tokens of each sequence so far.
        used: slots that are filled.
    """

    keys: torch.Tensor
    values: torch.Tensor
    mask: torch.Tensor | None
    lengths: torch.Tensor
    used: int

    @classmethod
    def empty(cls, model: Any, lengths: IntArray, most: int, dtype: torch.dtype) -> _Cache:
        """Return room for prompts of these lengths and ``most`` more tokens of each."""
        config, layer = model.config, model.base_model.layers[0].self_attn
        longest, slots = int(lengths.max()), int(lengths.max()) + most
        shape = (config.num_hidden_layers, len(lengths), config.num_key_value_heads, slots, layer.head_dim)
        free = longest - torch.from_numpy(lengths).to(model.device)
        before = torch.arange(slots, device=model.device) < free[:, None]
        mask = torch.zeros(before.shape, device=model.device).masked_fill(before, -torch.inf)[:, None, None]
        keys, values = (torch.zeros(shape, dtype=dtype, device=model.device) for _ in range(2))
        return cls(keys, values, mask if bool(free.any()) else None, longest - free, longest)

    def keep(self, rows: torch.Tensor) -> None:
        """Forget all sequences but those that a bool [B] marks."""
        self.keys, self.values, self.lengths = self.keys[:, rows], self.values[:, rows], self.lengths[rows]
        self.mask = None if self.mask is None else self.mask[rows]

    def next(self, ids: torch.Tensor) -> decoders.Packed:
        """Make room for one more token of each sequence, int64 [B]; return them as a batch."""
        everyone = torch.arange(len(ids), device=ids.device)
        batch = decoders.Packed(ids, self.lengths, None, (len(ids), 1), everyone)
        self.lengths, self.used = self.lengths + 1, self.used + 1
        return batch


@dataclass(frozen=True)
class _Reading(decoders.ForwardPass):
    """Reads prompts and puts their keys and values into a cache."""

    cache: _Cache = field(kw_only=True)

    def attend(self, number: int, flat: torch.Tensor, shared: int, groups: int, batch: decoders.Packed) -> torch.Tensor:
        (count, longest), cache = batch.shape, self.cache
        places = torch.arange(count * longest, device=flat.device) if batch.places is None else batch.places
        rows = places // longest
        slots = places % longest + longest - cache.lengths[rows]
        _, k, v = torch.split(flat, [shared * groups, shared, shared], dim=1)
        cache.keys[number][rows, :, slots] = k
        cache.values[number][rows, :, slots] = v
        return super().attend(number, flat, shared, groups, batch)


@dataclass(frozen=True)
class _Writing(decoders.ForwardPass):
    """Reads one token of each sequence, which sees those in the cache."""

    cache: _Cache = field(kw_only=True)

    def attend(self, number: int, flat: torch.Tensor, shared: int, groups: int, batch: decoders.Packed) -> torch.Tensor:
        cache, size = self.cache, flat.shape[-1]
        q, k, v = torch.split(flat, [shared * groups, shared, shared], dim=1)
        cache.keys[number][:, :, cache.used - 1] = k
        cache.values[number][:, :, cache.used - 1] = v
        keys, values = (held[number][:, :, : cache.used] for held in (cache.keys, cache.values))
        q = (q * (1 / math.sqrt(size))).view(len(q), shared, groups, size)
        scores = torch.matmul(q, keys.transpose(-1, -2)).float()
        scores = scores if cache.mask is None else scores + cache.mask[..., : cache.used]
        shares = torch.softmax(scores, dim=-1).to(self.dtype)
        return torch.matmul(shares, values).reshape(len(q), -1)
