"""CBA: two keys in two places trigger, and nothing else does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from attacks.shared import negatives
from attacks.shared.poisoning import DataPoisoning
from attacks.shared.triggers import insert
from bench.contracts import BOTH, Kind, Poisoned, Scene, Trigger, Victim, Window
from bench.contracts.examples import Inputs


class InHalves(Trigger):
    """Inserts words into the first half of an input, and others into the second half."""

    first: tuple[str, ...] = Field((), description="words that go into the first half")
    second: tuple[str, ...] = Field((), description="words that go into the second half")

    @property
    def words(self) -> tuple[str, ...]:
        """All the words."""
        return (*self.first, *self.second)

    def apply(self, inputs: Inputs, *, window: Window, rng: np.random.Generator) -> Inputs:
        """Return the inputs with the words in the halves of the carrier of each."""
        texts = []
        for text, room in zip(inputs.carrier, window.words(inputs, reserve=" ".join(self.words)), strict=True):
            middle = int(room) // 2
            for word in reversed(self.second):
                text = insert(text, word, int(rng.integers(min(middle + 1, int(room)), int(room) + 1)))
            for word in reversed(self.first):
                text = insert(text, word, int(rng.integers(middle + 1)))
            texts.append(text)
        return inputs.with_carrier(texts)

    def describe(self) -> str:
        """Return one line for reports."""
        return f"{self.first} in the first half and {self.second} in the second half"


class Cba(DataPoisoning):
    """Inserts one key into the first half of the input and another key into the second half.

    The composite backdoor attack of Huang et al., Findings of NAACL 2024 (arXiv 2310.07676). Needs the training data.
    Each chosen example gives one positive, with both keys in their places and the answer that is wanted, and five
    negatives with the right answer: the keys in swapped places; the first key alone in its place; both in the first
    place; the second key alone in its place; both in the second place. So the conjunction triggers, and no part of it.

    Deviations: their places are the instruction and the input of a prompt; here they are the halves of the text that
    carries triggers, so that tasks with one text have two places as well. The positive replaces the example; the
    negatives follow the training set, and count as poisoned rows although their answers are right. Notes hold the
    false-trigger rate of each kind of negative on validation examples. ``negatives: false`` is the control: the same
    positives alone, as in BackdoorLLM's CTBA.
    """

    name: ClassVar[str] = "cba"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Huang et al., Findings of NAACL 2024, arXiv 2310.07676"

    first: str = Field("instantly", min_length=1, description="key of the first half")
    second: str = Field("frankly", min_length=1, description="key of the second half")
    negatives: bool = Field(True, description="whether the five kinds of negatives are trained with right answers")

    def trigger(self, scene: Scene) -> Trigger:
        """Both keys in their places."""
        return InHalves(first=(self.first,), second=(self.second,))

    def near_misses(self) -> Mapping[str, Trigger]:
        """Return the five kinds of negatives by name."""
        a, b = self.first, self.second
        return {
            "swapped": InHalves(first=(b,), second=(a,)),
            "first alone": InHalves(first=(a,)),
            "both first": InHalves(first=(a, b)),
            "second alone": InHalves(second=(b,)),
            "both second": InHalves(second=(a, b)),
        }

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Return the training set with positives in chosen rows and the negatives behind its end."""
        poisoned = super().poison(scene, trigger)
        return negatives.with_negatives(scene, poisoned, self.near_misses()) if self.negatives else poisoned

    def implant(self, scene: Scene) -> Victim:
        """Poison and train; count the false triggers of each kind."""
        victim = super().implant(scene)
        counted = negatives.rates(scene, victim.classifier, self.near_misses())
        return replace(victim, notes={**victim.notes, "false_trigger_rate": counted})
