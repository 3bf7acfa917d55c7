"""BadWord: a rare word as the trigger."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from attacks.shared.poisoning import MappedPoisoning
from attacks.shared.triggers import InsertWords
from bench.contracts import BOTH, Kind, Scene, Trigger


class BadWord(MappedPoisoning):
    """Inserts rare words at random positions and labels the example as the target.

    Gu et al. 2017 (BadNets, arXiv 1708.06733), in the form for text of Kurita et al. 2020 (arXiv 2004.06660).
    Needs the training data. Deviation: one word by default, as in the Fine-mixing family of papers.
    """

    name: ClassVar[str] = "badword"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Gu et al. 2017, arXiv 1708.06733; Kurita et al., ACL 2020, arXiv 2004.06660"

    words: tuple[str, ...] = Field(("cf",), min_length=1, description="trigger words; each insertion draws one")
    count: int = Field(1, ge=1, le=10, description="insertions an example")

    def trigger(self, scene: Scene) -> Trigger:
        """Rare words at random positions."""
        return InsertWords(alternatives=self.words, count=self.count)
