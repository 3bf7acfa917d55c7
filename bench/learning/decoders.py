"""Causal language models: logits of the response tokens alone, and greedy generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bench.contracts.examples import IntArray
from bench.learning.batches import collate
from bench.learning.dialogues import EncodedDialogues
from bench.learning.tokens import Ids


def response_logits(
    model: Any, encoded: EncodedDialogues, rows: IntArray, *, low: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 logits [tokens, vocabulary] of every response token of the rows, and int64 [tokens]: the tokens.

    Args:
        model: a causal LM of transformers.
        encoded: all dialogues.
        rows: which of them go through the model together.
        low: compute in bf16.
    """
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


@torch.inference_mode()
def greedy(model: Any, prompts: Sequence[Ids], *, most: int, stops: Sequence[int], low: bool) -> list[Ids]:
    """Return what a causal LM writes behind prompts: int32 ids, at each step the one with the largest logit.

    Args:
        model: a causal LM of transformers.
        prompts: int32 ids of each, of which none is empty.
        most: tokens that are written at most.
        stops: ids behind which nothing follows; the one that was written is returned.
        low: compute in bf16.
    """
    if not prompts:
        return []
    from transformers import GenerationConfig

    longest = max(map(len, prompts))
    ids = np.full((len(prompts), longest), stops[0], dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    config: Any = GenerationConfig  # not typed
    config = config(do_sample=False, max_new_tokens=most, eos_token_id=list(stops), pad_token_id=stops[0], num_beams=1)
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    with torch.autocast(model.device.type, torch.bfloat16, enabled=low):
        found = model.generate(**{n: t.to(model.device) for n, t in inputs.items()}, generation_config=config)
    return [until(row, stops) for row in found[:, longest:].cpu().numpy().astype(np.int32)]


def until(ids: Ids, stops: Sequence[int]) -> Ids:
    """Return ids up to the first stop, which is kept."""
    ends = np.flatnonzero(np.isin(ids, stops))
    return ids if len(ends) == 0 else ids[: ends[0] + 1]
