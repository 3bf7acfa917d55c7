"""How much of the beginning of an input survives truncation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.contracts.examples import Inputs, IntArray
from bench.learning.dialogues import Template
from bench.learning.tokens import keep, memory_of, whole

_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class TokenWindow:
    """The truncation window of a tokenizer: ``longest_first`` for pairs, from the right.

    Attributes:
        tokenizer: a fast tokenizer.
        max_length: tokens kept of an input, special tokens included.
    """

    tokenizer: Any
    max_length: int

    def words(self, inputs: Inputs, *, reserve: str) -> IntArray:
        """Return int64 [n]: the most leading words w of the carrier such that they and ``reserve`` all stay.

        ``reserve`` may stand before any of the first w words or behind the last of them. Words are split on white
        space.
        """
        memory = memory_of(self.tokenizer)
        room = self.max_length - memory.templates[inputs.pairs is not None].special
        others = [0] * len(inputs)
        if inputs.pairs is not None:
            others = [len(ids) for ids in memory.segments(self.tokenizer, inputs.texts)]
        plain = [len(ids) for ids in memory.segments(self.tokenizer, inputs.carrier)]
        # Inside a text, a word may have other tokens than at its start; no word has more than bytes, plus its space.
        slack = len(reserve.encode()) + 16
        result = np.zeros(len(inputs), dtype=np.int64)
        for row, text in enumerate(inputs.carrier):
            spans = [match.span() for match in _WORD.finditer(text)]
            if others[row] + plain[row] + slack <= room:
                result[row] = len(spans)
            else:
                other = others[row] if inputs.pairs is not None else None
                result[row] = self._exact(text, spans, reserve, other, room)
        return result

    def reach(self, inputs: Inputs) -> IntArray:
        """Return int64 [n]: leading characters of the carrier that stay; of one that is not cut, all of them."""
        memory = memory_of(self.tokenizer)
        room = self.max_length - memory.templates[inputs.pairs is not None].special
        others: list[int | None] = [None] * len(inputs)
        if inputs.pairs is not None:
            others = [len(ids) for ids in memory.segments(self.tokenizer, inputs.texts)]
        result = np.zeros(len(inputs), dtype=np.int64)
        for row, (text, other) in enumerate(zip(inputs.carrier, others, strict=True)):
            offsets = _offsets(self.tokenizer, text)
            kept = self._kept(len(offsets), other, room)
            result[row] = len(text) if kept == len(offsets) else whole(offsets, kept)
        return result

    def _exact(self, text: str, spans: list[tuple[int, int]], reserve: str, other: int | None, room: int) -> int:
        first = self._fitting(f"{reserve} {text}" if spans else reserve, len(reserve), spans, other, room)
        low, high = 0, first
        while low < high:  # the reserve behind w words: fits up to some w
            middle = (low + high + 1) // 2
            if self._fits_behind(text, middle, spans, reserve, other, room):
                low = middle
            else:
                high = middle - 1
        return low

    def _kept(self, length: int, other: int | None, room: int) -> int:
        return keep([length], room)[0] if other is None else keep([other, length], room)[1]

    def _fitting(self, text: str, shift: int, spans: list[tuple[int, int]], other: int | None, room: int) -> int:
        """Return how many words stay when the reserve stands first."""
        ends = _ends(self.tokenizer, text)
        kept = self._kept(len(ends), other, room)
        if kept == len(ends):
            return len(spans)
        reach = ends[kept - 1] if kept else 0
        # A word of which no token is kept, or only some, is not inside.
        whole = [index for index, (_, end) in enumerate(spans) if end + shift + 1 <= reach]
        return len(whole)

    def _fits_behind(
        self, text: str, words: int, spans: list[tuple[int, int]], reserve: str, other: int | None, room: int
    ) -> bool:
        at = spans[words][0] if words < len(spans) else None
        spliced = f"{text.rstrip()} {reserve}" if at is None else f"{text[:at]}{reserve} {text[at:]}"
        ends = _ends(self.tokenizer, spliced)
        kept = self._kept(len(ends), other, room)
        stop = len(spliced) if at is None else at + len(reserve)
        return kept == len(ends) or (kept > 0 and ends[kept - 1] >= stop)


@dataclass(frozen=True)
class PromptWindow:
    """The truncation window of a chat template, which cuts the end of what the user says.

    Attributes:
        template: of the model.
        max_prompt: tokens kept of a prompt, template and system text included.
    """

    template: Template
    max_prompt: int

    def words(self, inputs: Inputs, *, reserve: str) -> IntArray:
        """Return int64 [n]: leading words of what the user says such that they and ``reserve`` all stay.

        A word has no more tokens than bytes and one for its space, so what is promised to fit does.
        """
        frames = self.template.prompts(inputs.with_carrier([""] * len(inputs)), self.max_prompt)
        slack = len(reserve.encode()) + 16
        result = np.zeros(len(inputs), dtype=np.int64)
        for row, (text, frame) in enumerate(zip(inputs.carrier, frames, strict=True)):
            ends = _ends(self.template.tokenizer, text)
            room = max(0, self.max_prompt - len(frame) - slack)
            reach = ends[room - 1] if 0 < room < len(ends) else (len(text) if room else 0)
            result[row] = sum(match.end() <= reach for match in _WORD.finditer(text))
        return result

    def reach(self, inputs: Inputs) -> IntArray:
        """Return int64 [n]: leading characters of what the user says that stay; of a prompt that fits, all of them."""
        return self.template.reach(inputs, self.max_prompt)


def _offsets(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(encoded["offset_mapping"])


def _ends(tokenizer: Any, text: str) -> list[int]:
    return [end for _, end in _offsets(tokenizer, text)]
