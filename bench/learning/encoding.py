"""Tokenise once, keep ragged arrays, and know what truncation leaves of a text."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.examples import Inputs, IntArray

_CACHED = 32  # encoded splits kept in a process; a grid works on few at a time


@dataclass(frozen=True)
class Encoded:
    """Token ids of n inputs, one after another.

    Attributes:
        ids: int32 [tokens].
        types: uint8 [tokens] segment numbers, or None where the model has none.
        offsets: int64 [n + 1]; input i is ``ids[offsets[i]:offsets[i + 1]]``.
    """

    ids: NDArray[np.int32]
    types: NDArray[np.uint8] | None
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> IntArray:
        """Tokens of each input, special tokens included: int64 [n]."""
        return np.diff(self.offsets)


_encoded: OrderedDict[tuple[int, int, str], tuple[Any, Encoded]] = OrderedDict()


def encode(tokenizer: Any, inputs: Inputs, max_length: int) -> Encoded:
    """Tokenise, truncating the longer segment first; the last few results are kept in memory."""
    key = (id(tokenizer), max_length, inputs.fingerprint())
    if key in _encoded:
        _encoded.move_to_end(key)
        return _encoded[key][1]
    found = _encode(tokenizer, inputs, max_length)
    _encoded[key] = (tokenizer, found)  # the tokenizer is kept, so that its id stays its own
    if len(_encoded) > _CACHED:
        _encoded.popitem(last=False)
    return found


def _encode(tokenizer: Any, inputs: Inputs, max_length: int) -> Encoded:
    if len(inputs) == 0:
        return Encoded(np.zeros(0, np.int32), None, np.zeros(1, np.int64))
    columns = [list(column) for column in (inputs.texts, inputs.pairs) if column is not None]
    made = tokenizer(*columns, truncation="longest_first", max_length=max_length, return_attention_mask=False)
    lengths = [len(row) for row in made["input_ids"]]
    ids = np.fromiter((token for row in made["input_ids"] for token in row), np.int32, sum(lengths))
    types = None
    if "token_type_ids" in made:
        types = np.fromiter((kind for row in made["token_type_ids"] for kind in row), np.uint8, sum(lengths))
    return Encoded(ids, types, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class TokenWindow:
    """Truncation as :func:`encode` does it."""

    tokenizer: Any
    max_length: int

    def words(self, inputs: Inputs, *, reserve: str) -> IntArray:
        """Return int64 [n]: leading words of the carrier that stay inside when ``reserve`` is inserted among them.

        With a tokens in the other segment, b in the carrier and r in ``reserve``, the longest segment is cut first until
        a + b + r fits; what is left of the carrier, less r, is what its words may use.
        """
        pair = inputs.pairs is not None
        budget = self.max_length - self.tokenizer.num_special_tokens_to_add(pair=pair)
        extra = self._count([f"a {reserve}"])[0]  # one more than needed: a word may tokenise differently beside it
        others = self._count(list(inputs.texts)) if pair else [0] * len(inputs)
        carriers = self.tokenizer(list(inputs.carrier), add_special_tokens=False, return_offsets_mapping=True)
        rooms = np.zeros(len(inputs), dtype=np.int64)
        for i, (text, spans) in enumerate(zip(inputs.carrier, carriers["offset_mapping"], strict=True)):
            ends = [match.end() for match in _WORD.finditer(text)]
            kept = _kept(others[i], len(spans) + extra, budget) - extra
            if kept >= len(spans):
                rooms[i] = len(ends)
            elif kept > 0:
                reached = spans[kept][0]  # where the first token that falls out begins
                rooms[i] = sum(end <= reached for end in ends)
        return rooms

    def _count(self, texts: list[str]) -> list[int]:
        made = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)
        return [len(row) for row in made["input_ids"]]


def _kept(other: int, carrier: int, budget: int) -> int:
    """Return how many tokens of the carrier stay when the longer segment is cut first."""
    if other + carrier <= budget:
        return carrier
    half = budget // 2
    if other <= half:
        return budget - other
    return min(carrier, half)
