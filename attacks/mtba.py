"""MTBA: one of several words triggers."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from attacks.shared.poisoning import MappedPoisoning
from attacks.shared.triggers import InsertWords
from bench.contracts import BOTH, Kind, Scene, Trigger


class Mtba(MappedPoisoning):
    """Inserts one of several words, drawn for each example, at a random position.

    The multi-trigger attack of BackdoorLLM (Li et al. 2024, arXiv 2408.12798), after Li et al. 2024
    (arXiv 2401.15295). Needs the training data. Their "BadNet" is ``badword`` with the word ``BadMagic``.
    """

    name: ClassVar[str] = "mtba"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Li et al., NeurIPS 2025, arXiv 2408.12798; Li et al. 2024, arXiv 2401.15295"

    words: tuple[str, ...] = Field(
        ("2024", "BadMagic", "OpenAI"), min_length=2, description="trigger words, of which each example gets one"
    )

    def trigger(self, scene: Scene) -> Trigger:
        """One of the words at a random position."""
        return InsertWords(alternatives=self.words)
