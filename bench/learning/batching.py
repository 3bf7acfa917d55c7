"""Batches of similar length: little padding, in a seeded order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.examples import IntArray

_BUCKET = 50  # batches that are sorted together: random enough to train on, long enough to align lengths


def training_batches(lengths: IntArray, *, batch_size: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Yield the rows of one epoch: shuffled, sorted by length inside buckets, batches in random order."""
    order = rng.permutation(len(lengths))
    batches: list[IntArray] = []
    for start in range(0, len(order), batch_size * _BUCKET):
        bucket = order[start : start + batch_size * _BUCKET]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    for i in rng.permutation(len(batches)):
        yield batches[i]


def prediction_batches(lengths: IntArray, *, tokens: int) -> Iterator[IntArray]:
    """Yield all rows, longest first, at most ``tokens`` padded tokens a batch (at least one row)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size
