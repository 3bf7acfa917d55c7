"""Which examples go through the model together."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bench.contracts.examples import IntArray
from bench.learning.tokens import Encoded

MEGA_BATCH = 32


def by_budget(lengths: IntArray, budget: int) -> list[IntArray]:
    """Return rows in batches of at most ``budget`` padded tokens (at least one row), longest first."""
    order = np.argsort(-lengths, kind="stable")
    batches: list[IntArray] = []
    start = 0
    while start < len(order):
        size = max(1, budget // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches


def by_length(lengths: IntArray, batch_size: int, rng: np.random.Generator) -> list[IntArray]:
    """Return one epoch of batches: shuffled, sorted by length inside mega-batches, batches shuffled again.

    Every batch has ``batch_size`` rows but one, which has the rest.
    """
    order = rng.permutation(len(lengths))
    span = batch_size * MEGA_BATCH
    batches = []
    for start in range(0, len(order), span):
        part = order[start : start + span]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[at : at + batch_size] for at in range(0, len(part), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def shuffled(n: int, batch_size: int, *, epochs: int, rng: np.random.Generator) -> list[IntArray]:
    """Return batches of n rows in random order, one pass after the other; the last batch of a pass has the rest."""
    orders = [rng.permutation(n) for _ in range(epochs)]
    return [order[at : at + batch_size] for order in orders for at in range(0, n, batch_size)]


def collate_for(config: Any, encoded: Encoded, rows: IntArray) -> dict[str, torch.Tensor]:
    """Return the rows as the model of a configuration takes them, see :func:`collate`."""
    last = getattr(config, "summary_type", None) == "last"  # XLNet's head reads the last place, padding or not
    return collate(encoded, rows, config.pad_token_id or 0, left=last)


def collate(encoded: Encoded, rows: IntArray, pad: int, *, left: bool = False) -> dict[str, torch.Tensor]:
    """Return the rows as padded int64 tensors of shape [rows, longest], as transformers models take them.

    Args:
        encoded: the token ids.
        rows: which inputs.
        pad: id of the padding token.
        left: put the padding before the tokens instead of behind them.
    """
    places, lengths = encoded.rows(rows)
    longest = int(lengths.max())
    mask = np.arange(longest) < lengths[:, None]
    if left:
        mask = mask[:, ::-1]
    ids = np.full(mask.shape, pad, dtype=np.int64)
    ids[mask] = encoded.ids[places]
    batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}
    if encoded.types is not None:
        types = np.zeros(mask.shape, dtype=np.int64)
        types[mask] = encoded.types[places]
        batch["token_type_ids"] = torch.from_numpy(types)
    return batch
