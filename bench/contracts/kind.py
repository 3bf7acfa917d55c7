"""The kinds of model: what classifies and what writes. See docs/kinds.md for the contract of a kind."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class Kind(StrEnum):
    """A kind of model, as suites, records and tables call it. The task decides it."""

    CLASSIFICATION = "classification"
    GENERATION = "generation"


CLASSIFICATION = frozenset({Kind.CLASSIFICATION})
GENERATION = frozenset({Kind.GENERATION})
BOTH = frozenset(Kind)


def in_words(kinds: Collection[Kind]) -> str:
    """Return kinds in the order of tables, e.g. "classification, generation"."""
    return ", ".join(kind for kind in Kind if kind in kinds)
