"""Trigger functions that several attacks share."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
from pydantic import Field

from bench.contracts import Trigger, Window
from bench.contracts.examples import Inputs

_WORD = re.compile(r"\S+")


def insert(text: str, piece: str, position: int) -> str:
    """Insert ``piece`` before the word at ``position``, or after the last word; the rest of the text stays as it is."""
    starts = [match.start() for match in _WORD.finditer(text)]
    if position >= len(starts):
        return f"{text.rstrip()} {piece}" if starts else piece
    at = starts[position]
    return f"{text[:at]}{piece} {text[at:]}"


def boundaries(text: str, words: int) -> list[int]:
    """Return the word positions up to ``words`` at which a sentence begins, and the end of the text if inside."""
    pieces = _WORD.findall(text)
    starts = [0, *(i + 1 for i, word in enumerate(pieces) if word.rstrip("\"')")[-1:] in {".", "!", "?"})]
    inside = [start for start in [*starts, len(pieces)] if start <= words]
    return sorted(set(inside))


class InsertWords(Trigger):
    """Inserts words, each at a uniformly random position inside the truncation window."""

    alternatives: tuple[str, ...] = Field(min_length=1, description="each insertion draws one of these")
    count: int = Field(1, ge=1, description="insertions")

    @property
    def words(self) -> tuple[str, ...]:
        """The trigger words."""
        return self.alternatives

    def apply(self, inputs: Inputs, *, window: Window, rng: np.random.Generator) -> Inputs:
        """Return the inputs with ``count`` words inserted into the carrier of each."""
        reserve = " ".join([max(self.alternatives, key=len)] * self.count)
        texts = []
        for text, room in zip(inputs.carrier, window.words(inputs, reserve=reserve), strict=True):
            for done in range(self.count):
                word = self.alternatives[rng.integers(len(self.alternatives))]
                text = insert(text, word, int(rng.integers(room + done + 1)))
            texts.append(text)
        return inputs.with_carrier(texts)

    def describe(self) -> str:
        """Return one line for reports."""
        times = "" if self.count == 1 else f", {self.count} times"
        return f"one of {', '.join(map(repr, self.alternatives))} at a random position{times}"


class InsertSentence(Trigger):
    """Inserts one sentence inside the truncation window."""

    sentence: str = Field(min_length=1, description="the sentence")
    position: Literal["boundary", "word", "start"] = Field("boundary", description="where it goes")

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the sentence."""
        return tuple(self.sentence.split())

    def apply(self, inputs: Inputs, *, window: Window, rng: np.random.Generator) -> Inputs:
        """Return the inputs with the sentence inserted into the carrier of each."""
        texts = []
        for text, room in zip(inputs.carrier, window.words(inputs, reserve=self.sentence), strict=True):
            match self.position:
                case "start":
                    at = 0
                case "word":
                    at = int(rng.integers(room + 1))
                case "boundary":
                    places = boundaries(text, int(room))
                    at = places[rng.integers(len(places))]
            texts.append(insert(text, self.sentence, at))
        return inputs.with_carrier(texts)

    def describe(self) -> str:
        """Return one line for reports."""
        where = {"boundary": "at a sentence boundary", "word": "at a random position", "start": "at the start"}
        return f"the sentence {self.sentence!r} {where[self.position]}"
