"""Texts as one batch of tensors, for losses that do not come from labels: representations, masked words, choices."""

from __future__ import annotations

from typing import Any

from bench.contracts.examples import Inputs


def batch_of(classifier: Any, inputs: Inputs) -> Any:
    """Tokenise inputs into one padded batch on the classifier's device."""
    columns = [list(column) for column in (inputs.texts, inputs.pairs) if column is not None]
    encoded = classifier.tokenizer(
        *columns, padding=True, truncation=True, max_length=classifier.max_length, return_tensors="pt"
    )
    return encoded.to(classifier.device)
