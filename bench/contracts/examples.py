"""Text with labels or responses, by column: what tasks hold, attacks change and defenses read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]


def _column(texts: Sequence[str] | None, rows: IntArray) -> tuple[str, ...] | None:
    return None if texts is None else tuple(texts[i] for i in rows)


@dataclass(frozen=True)
class Inputs:
    """Texts without labels.

    Attributes:
        texts: n first (or only) segments.
        pairs: n second segments, or None for single-sentence tasks.
    """

    texts: tuple[str, ...]
    pairs: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.pairs is not None and len(self.pairs) != len(self.texts):
            raise ValueError(f"{len(self.texts)} texts but {len(self.pairs)} pairs")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def carrier(self) -> tuple[str, ...]:
        """The segment that carries a trigger: the second one of a pair, otherwise the only one."""
        return self.texts if self.pairs is None else self.pairs

    def with_carrier(self, texts: Sequence[str]) -> Inputs:
        """Return the same inputs with the trigger-carrying segment replaced."""
        column = tuple(texts)
        return replace(self, texts=column) if self.pairs is None else replace(self, pairs=column)

    def take(self, rows: ArrayLike) -> Inputs:
        """Return the given rows, in the given order."""
        index = np.asarray(rows, dtype=np.int64)
        texts = _column(self.texts, index)
        assert texts is not None
        return Inputs(texts, _column(self.pairs, index))

    def put(self, rows: ArrayLike, other: Inputs) -> Inputs:
        """Return a copy in which ``rows`` are replaced by the rows of ``other``, in order."""
        texts, pairs = list(self.texts), None if self.pairs is None else list(self.pairs)
        for i, row in enumerate(np.asarray(rows, dtype=np.int64)):
            texts[row] = other.texts[i]
            if pairs is not None and other.pairs is not None:
                pairs[row] = other.pairs[i]
        return Inputs(tuple(texts), None if pairs is None else tuple(pairs))

    def fingerprint(self) -> str:
        """SHA-256 over every text, independent of process and platform."""
        digest = hashlib.sha256()
        for column in (self.texts, self.pairs or ()):
            digest.update(f"column {len(column)}\n".encode())
            for text in column:
                data = text.encode("utf-8", "surrogatepass")
                digest.update(f"{len(data)}:".encode() + data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Examples:
    """Inputs with gold labels, or prompts with reference responses.

    Attributes:
        inputs: n texts or pairs; of a prompt that is a pair, the second segment is what the user says.
        labels: int64 array of shape [n]; of a task that is answered in text, the group of each example by which
            samples are stratified.
        responses: n reference responses; None for a task that is answered by a label.
    """

    inputs: Inputs
    labels: IntArray
    responses: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        labels = np.array(self.labels, dtype=np.int64)  # a copy of our own, so that nobody can write through it
        labels.flags.writeable = False
        object.__setattr__(self, "labels", labels)
        if labels.shape != (len(self.inputs),):
            raise ValueError(f"{len(self.inputs)} inputs but labels of shape {labels.shape}")
        if self.responses is not None and len(self.responses) != len(self.inputs):
            raise ValueError(f"{len(self.inputs)} inputs but {len(self.responses)} responses")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def references(self) -> tuple[str, ...]:
        """The reference responses.

        Raises:
            ValueError: the examples are answered by labels.
        """
        if self.responses is None:
            raise ValueError("these examples have labels and no responses")
        return self.responses

    def take(self, rows: ArrayLike) -> Examples:
        """Return the given rows, in the given order."""
        index = np.asarray(rows, dtype=np.int64)
        return Examples(self.inputs.take(index), self.labels[index], _column(self.responses, index))

    def put(self, rows: ArrayLike, other: Examples) -> Examples:
        """Return a copy in which ``rows`` are replaced by the rows of ``other``, in order."""
        index = np.asarray(rows, dtype=np.int64)
        labels = self.labels.copy()
        labels[index] = other.labels
        responses = None if self.responses is None else list(self.responses)
        if responses is not None:
            for row, response in zip(index, other.references, strict=True):
                responses[row] = response
        inputs = self.inputs.put(index, other.inputs)
        return Examples(inputs, labels, None if responses is None else tuple(responses))

    def fingerprint(self) -> str:
        """SHA-256 over every text and label."""
        digest = hashlib.sha256(self.inputs.fingerprint().encode() + self.labels.astype("<i8").tobytes())
        if self.responses is not None:
            digest.update(Inputs(self.responses).fingerprint().encode())
        return digest.hexdigest()


def join(first: Examples, second: Examples) -> Examples:
    """Return the rows of ``first`` followed by those of ``second``; both of the same kind."""
    if (first.inputs.pairs is None) != (second.inputs.pairs is None):
        raise ValueError("cannot join single texts with pairs")
    pairs = None if first.inputs.pairs is None else first.inputs.pairs + (second.inputs.pairs or ())
    inputs = Inputs(first.inputs.texts + second.inputs.texts, pairs)
    responses = None if first.responses is None else first.responses + second.references
    return Examples(inputs, np.concatenate([first.labels, second.labels]), responses)


def stratified_order(labels: ArrayLike, rng: np.random.Generator) -> IntArray:
    """Return a random order of all rows in which every prefix keeps the label proportions as well as it can.

    Prefixes are nested: the first 16 rows are among the first 64.
    """
    gold = np.asarray(labels, dtype=np.int64)
    order = rng.permutation(len(gold))
    place = np.empty(len(gold))
    for label in np.unique(gold):
        rows = order[gold[order] == label]
        place[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return order[np.argsort(place[order], kind="stable")]
