"""Batches of dialogues, in the form in which transformers models take them."""

from __future__ import annotations

from typing import Any


def first_answered(batch: Any, tokens: int) -> dict[str, Any]:
    """Return a batch in which only the first ``tokens`` tokens of each response have labels."""
    labels = batch["labels"]
    late = (labels >= 0).cumsum(1) > tokens
    return {**batch, "labels": labels.masked_fill(late, -100)}
