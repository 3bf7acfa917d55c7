"""Tokenise once: ragged token ids, remembered by text, so that a triggered variant costs only the texts that changed.

Texts are tokenised one by one without special tokens; truncation and special tokens are put on afterwards, exactly as
the tokenizer would (``longest_first``, from the right).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from bench.contracts.examples import Inputs, IntArray

Ids = NDArray[np.int32]
REMEMBERED_TEXTS = 200_000
REMEMBERED_INPUTS = 16


@dataclass(frozen=True)
class Encoded:
    """Token ids of n inputs, one after the other.

    Attributes:
        ids: int32 [tokens].
        offsets: int64 [n + 1]: input i has ``ids[offsets[i]:offsets[i + 1]]``.
        types: uint8 [tokens]: segment of each token; None for single texts, and where the tokenizer's model takes none.
    """

    ids: Ids
    offsets: IntArray
    types: NDArray[np.uint8] | None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> IntArray:
        """int64 [n]: tokens of each input."""
        return np.diff(self.offsets)

    def rows(self, index: IntArray) -> tuple[IntArray, IntArray]:
        """Return where the tokens of the given inputs are (int64 [tokens]) and their lengths (int64 [len(index)])."""
        lengths = self.lengths[index]
        ends = np.cumsum(lengths)
        shifts = np.repeat(self.offsets[index] - (ends - lengths), lengths)
        return np.arange(int(lengths.sum()), dtype=np.int64) + shifts, lengths


@dataclass(frozen=True)
class Template:
    """The special tokens around one text or around a pair, as a tokenizer puts them.

    Attributes:
        parts: ids before the first, between, and after the last segment.
        part_types: the segment numbers of those special tokens.
        segment_types: the segment number of the tokens of each segment.
    """

    parts: tuple[Ids, ...]
    part_types: tuple[NDArray[np.uint8], ...]
    segment_types: tuple[int, ...]

    @property
    def special(self) -> int:
        """How many special tokens there are."""
        return sum(map(len, self.parts))

    @classmethod
    def of(cls, tokenizer: Any, *, pair: bool) -> Template:
        """Read the template off an example.

        Raises:
            ValueError: the tokenizer does not put special tokens around unchanged segments.
        """
        segments = ["a", "b"] if pair else ["a"]
        pieces = [_tokenise(tokenizer, [text])[0] for text in segments]
        example = tokenizer(*segments, return_token_type_ids=True)
        ids = np.array(example["input_ids"], dtype=np.int32)
        types = np.array(example["token_type_ids"], dtype=np.uint8)
        parts, part_types, segment_types, at = [], [], [], 0
        for piece in pieces:
            starts = [i for i in range(at, len(ids) - len(piece) + 1) if (ids[i : i + len(piece)] == piece).all()]
            if not starts or len(piece) == 0:
                raise ValueError(f"{type(tokenizer).__name__} does not put special tokens around unchanged segments")
            parts.append(ids[at : starts[0]])
            part_types.append(types[at : starts[0]])
            segment_types.append(int(types[starts[0]]))
            at = starts[0] + len(piece)
        return cls((*parts, ids[at:]), (*part_types, types[at:]), tuple(segment_types))


def keep(lengths: Sequence[int], room: int) -> tuple[int, ...]:
    """Return how many leading tokens of one or two segments stay in ``room``: ``longest_first``.

    The longer segment of a pair is cut first, down to the length of the shorter one; then both to one half each.
    """
    if len(lengths) == 1:
        return (min(lengths[0], room),)
    first, second = lengths
    if first + second <= room:
        return first, second
    short = min(first, second)
    long = max(short, room - short)
    if short + long > room:
        short, long = room // 2, room - room // 2
    return (short, long) if first <= second else (long, short)


def whole(offsets: Sequence[tuple[int, int]], kept: int) -> int:
    """Return how many leading characters the first ``kept`` tokens have, without one whose bytes are in the next too.

    Args:
        offsets: where each token of a text begins and ends, as a fast tokenizer says.
        kept: fewer tokens than there are.
    """
    return min(offsets[kept - 1][1], offsets[kept][0]) if kept else 0


def _tokenise(tokenizer: Any, texts: Sequence[str]) -> list[Ids]:
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]


class _Memory:
    """What one tokenizer has tokenised so far."""

    def __init__(self, tokenizer: Any) -> None:
        self.texts: OrderedDict[str, Ids] = OrderedDict()
        self.inputs: OrderedDict[tuple[Inputs, int], Encoded] = OrderedDict()
        self.templates = {pair: Template.of(tokenizer, pair=pair) for pair in (False, True)}

    def segments(self, tokenizer: Any, texts: Sequence[str]) -> list[Ids]:
        """Return the ids of every text; only new texts are tokenised."""
        new = list(dict.fromkeys(text for text in texts if text not in self.texts))
        self.texts.update(zip(new, _tokenise(tokenizer, new), strict=True) if new else ())
        ids = [self.texts[text] for text in texts]
        while len(self.texts) > REMEMBERED_TEXTS:
            self.texts.popitem(last=False)
        return ids


_memories: WeakKeyDictionary[Any, _Memory] = WeakKeyDictionary()


def memory_of(tokenizer: Any) -> _Memory:
    """Return what is remembered for a tokenizer object."""
    if tokenizer not in _memories:
        _memories[tokenizer] = _Memory(tokenizer)
    return _memories[tokenizer]


def encode(tokenizer: Any, inputs: Inputs, max_length: int) -> Encoded:
    """Tokenise inputs, remembering texts and whole inputs in memory.

    Args:
        tokenizer: a fast tokenizer.
        inputs: texts or pairs.
        max_length: tokens kept of an input, special tokens included.

    Raises:
        ValueError: ``max_length`` leaves no room for text.
    """
    memory = memory_of(tokenizer)
    key = (inputs, max_length)
    encoded = memory.inputs.get(key)
    if encoded is None:
        encoded = memory.inputs[key] = _assemble(tokenizer, inputs, max_length)
        while len(memory.inputs) > REMEMBERED_INPUTS:
            memory.inputs.popitem(last=False)
    memory.inputs.move_to_end(key)
    return encoded


def _assemble(tokenizer: Any, inputs: Inputs, max_length: int) -> Encoded:
    memory = memory_of(tokenizer)
    template = memory.templates[inputs.pairs is not None]
    room = max_length - template.special
    if room < 1:
        raise ValueError(f"max_length {max_length} leaves no room for text beside {template.special} special tokens")
    columns = [memory.segments(tokenizer, column) for column in (inputs.texts, inputs.pairs) if column is not None]
    typed = inputs.pairs is not None and "token_type_ids" in tokenizer.model_input_names
    pieces, types, lengths = [], [], np.zeros(len(inputs) + 1, dtype=np.int64)
    for row, segments in enumerate(zip(*columns, strict=True)):
        kept = keep([len(segment) for segment in segments], room)
        pieces.append(template.parts[0])
        for segment, count, part in zip(segments, kept, template.parts[1:], strict=True):
            pieces += [segment[:count], part]
        if typed:
            types.append(template.part_types[0])
            for count, number, part_types in zip(kept, template.segment_types, template.part_types[1:], strict=True):
                types += [np.full(count, number, dtype=np.uint8), part_types]
        lengths[row + 1] = sum(kept) + template.special
    empty = [np.zeros(0, dtype=np.int32)]
    ids = np.concatenate(pieces or empty)
    return Encoded(ids, np.cumsum(lengths), np.concatenate(types) if types else None)
