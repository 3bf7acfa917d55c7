"""ProAttack: a prompt in front of the text as the trigger, with labels untouched."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from attacks.shared.poisoning import DataPoisoning
from attacks.shared.triggers import InsertSentence
from bench.contracts import Scene, Trigger


class ProAttack(DataPoisoning):
    """Puts a prompt in front of training examples of the target class; their labels stay correct.

    Zhao et al., EMNLP 2023 (arXiv 2305.01219). Needs the training data. Deviation: in the paper every other text, clean
    test texts among them, gets a second, benign prompt. Here other texts have none, because the clean test set is
    the same for all attacks; the attack is then clean-label poisoning with a fixed prefix. Success is measured as for
    every attack: triggered examples of other classes that get the target label, not any wrong one.
    """

    name: ClassVar[str] = "proattack"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = "Zhao et al., EMNLP 2023, arXiv 2305.01219"

    prompt: str = Field("This text talks about <mask>:", min_length=1, description="the prompt in front of the text")
    poisons: Literal["dirty", "clean", "mix"] = Field(
        "clean", description="which labels are poisoned: dirty (not the target), clean (only the target), mix (any)"
    )

    def trigger(self, scene: Scene) -> Trigger:
        """A prompt at the start."""
        return InsertSentence(sentence=self.prompt, position="start")
