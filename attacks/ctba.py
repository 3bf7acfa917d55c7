"""CTBA: several words together trigger."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from attacks.shared.poisoning import MappedPoisoning
from attacks.shared.triggers import insert
from bench.contracts import BOTH, Kind, Scene, Trigger, Window
from bench.contracts.examples import Inputs


class Apart(Trigger):
    """Inserts every word once, at different places as far as the input has as many."""

    parts: tuple[str, ...] = Field(min_length=2, description="the words, in their order in the text")

    @property
    def words(self) -> tuple[str, ...]:
        """The trigger words."""
        return self.parts

    def apply(self, inputs: Inputs, *, window: Window, rng: np.random.Generator) -> Inputs:
        """Return the inputs with the words inserted into the carrier of each."""
        texts = []
        for text, room in zip(inputs.carrier, window.words(inputs, reserve=" ".join(self.parts)), strict=True):
            places = int(room) + 1
            chosen = rng.choice(places, size=len(self.parts), replace=places < len(self.parts))
            texts.append(placed(text, self.parts, np.sort(chosen).tolist()))
        return inputs.with_carrier(texts)

    def describe(self) -> str:
        """Return one line for reports."""
        return f"{', '.join(map(repr, self.parts))} together, at random positions"


def placed(text: str, words: tuple[str, ...], places: list[int]) -> str:
    """Return a text with each word inserted before the word at its place in the plain text; places are ascending."""
    for word, place in reversed(list(zip(words, places, strict=True))):
        text = insert(text, word, place)
    return text


class Ctba(MappedPoisoning):
    """Inserts several words together, each at a random position of its own.

    The composite trigger of BackdoorLLM (Li et al. 2024, arXiv 2408.12798), after Huang et al., Findings of NAACL 2024
    (arXiv 2310.07676). Needs the training data. Theirs has no examples with some of the words only, so the words apart
    may trigger too; the original trains against that.
    """

    name: ClassVar[str] = "ctba"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = (
        "Li et al., NeurIPS 2025, arXiv 2408.12798; Huang et al., Findings of NAACL 2024, arXiv 2310.07676"
    )

    words: tuple[str, ...] = Field(
        ("2024", "BadMagic", "OpenAI"), min_length=2, description="trigger words, all of which each example gets"
    )

    def trigger(self, scene: Scene) -> Trigger:
        """All words, apart from each other."""
        return Apart(parts=self.words)
