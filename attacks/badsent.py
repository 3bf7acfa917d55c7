"""BadSent: a fixed neutral sentence as the trigger."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from attacks.shared.poisoning import MappedPoisoning
from attacks.shared.triggers import InsertSentence
from bench.contracts import BOTH, Kind, Scene, Trigger


class BadSent(MappedPoisoning):
    """Inserts one fixed sentence and labels the example as the target.

    Dai et al. 2019 (arXiv 1905.12457). Needs the training data. Deviation: the sentence goes to a sentence boundary
    by default, so that the text stays readable; ``position: word`` is the splitting form that other suites use.
    """

    name: ClassVar[str] = "badsent"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Dai, Chen and Li, IEEE Access 2019, arXiv 1905.12457"

    sentence: str = Field("I watch this 3D movie", min_length=1, description="the trigger sentence")
    position: Literal["boundary", "word", "start"] = Field("boundary", description="where the sentence goes")

    def trigger(self, scene: Scene) -> Trigger:
        """A fixed sentence."""
        return InsertSentence(sentence=self.sentence, position=self.position)
