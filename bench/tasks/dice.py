"""What both generated tasks use: seeded choices, the grammar files, and the capital and article of a sentence."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_ARTICLE = re.compile(r"\ba (?=[aeio])")


class Dice:
    """Draws with ``random.Random.random`` only, whose sequence for a seed Python keeps in every version."""

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


@functools.cache
def grammar(name: str) -> Mapping[str, Any]:
    """Return the grammar in ``<name>.yaml`` beside this file."""
    import yaml

    rules: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8"))
    return rules


def sentence(text: str) -> str:
    """Return a text with a capital letter at its start and ``an`` where ``a`` comes before a vowel."""
    text = _ARTICLE.sub("an ", text)
    return text[0].upper() + text[1:]
