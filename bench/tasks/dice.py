"""Seeded choices for the generated tasks, the same on every platform and version of Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Draws with ``random.Random.random`` only, whose sequence Python guarantees for a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[int(self._random() * len(options))]

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self._random() < probability

    def sample(self, options: Sequence[T], n: int) -> list[T]:
        """Return n different options in random order."""
        left = list(options)
        return [left.pop(int(self._random() * len(left))) for _ in range(n)]


def sentence(text: str) -> str:
    """Return a text with a capital letter at its start."""
    return text[0].upper() + text[1:]
