"""What the formulas of metrics read of a defended model: its answers to the clean and to the triggered test set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.contracts import IntArray, Kind


@dataclass(frozen=True)
class Answers:
    """What a defended model said of one test set of n examples.

    Attributes:
        gold: [n] gold labels.
        labels: [n] predicted labels.
        rejected: bool [n]: the defense refuses to answer.
    """

    gold: NDArray[np.integer[Any]]
    labels: NDArray[np.integer[Any]]
    rejected: NDArray[np.bool_]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Bool [n]: classified as the gold label, and not rejected."""
        hits: NDArray[np.bool_] = (self.labels == self.gold) & ~self.rejected
        return hits

    @property
    def guess(self) -> NDArray[np.bool_]:
        """Bool [n]: the gold label is the most frequent one."""
        values, counts = np.unique(self.gold, return_counts=True)
        guesses: NDArray[np.bool_] = self.gold == values[counts.argmax()]
        return guesses


@dataclass(frozen=True)
class Judged:
    """Everything that a formula may read of a defended classifier.

    Attributes:
        clean: its answers to the whole test set.
        triggered: its answers to the triggered test set; None for the clean reference, which has no trigger.
        target: the target label, or [n triggered] where each triggered example has its own.
        rejects: whether the defense may reject an example.
        sources: int [n triggered]: the row of the test set that each triggered example was made from; None where that
            is not known.
        beside: float64 [n] by column: what measures of the suite say of it; empty where it asks for none.
    """

    clean: Answers
    triggered: Answers | None
    target: int | IntArray
    rejects: bool
    sources: NDArray[np.integer[Any]] | None = None
    beside: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    kind: ClassVar[Kind] = Kind.CLASSIFICATION

    @property
    def fooled(self) -> NDArray[np.bool_]:
        """Bool [n triggered]: classified as the target, and not rejected."""
        assert self.triggered is not None
        hits: NDArray[np.bool_] = (self.triggered.labels == self.target) & ~self.triggered.rejected
        return hits


@dataclass(frozen=True)
class Written:
    """What a defended generator wrote for one test set of n prompts.

    Attributes:
        right: float32 [n]: the utility of each response, 0 to 1; 0 for a rejected one.
        rejected: bool [n]: the defense refuses to answer.
        ended: bool [n]: the model ended the response by itself.
        broken: bool [n]: the response is empty, or it was stopped while it repeated itself.
        tokens: n arrays of token ids.
        holds: bool [n]: whether it holds the payload; None where there is none, as for the clean model by itself.
        counts: bool [n]: whether the right response does not hold it.
        loss: float64 [n]: minus the mean log-probability of the reference's tokens; None for triggered prompts.
        guess: float32 [n]: the utility of always answering the most frequent reference; None for triggered prompts.
        sources: int32 [n]: the row of the test set that each triggered prompt was made from; None for clean ones.
    """

    right: NDArray[np.float32]
    rejected: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    broken: NDArray[np.bool_]
    tokens: tuple[NDArray[np.int32], ...]
    holds: NDArray[np.bool_] | None = None
    counts: NDArray[np.bool_] | None = None
    loss: NDArray[np.float64] | None = None
    guess: NDArray[np.float32] | None = None
    sources: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class JudgedText:
    """Everything that a formula may read of a defended generator.

    Attributes:
        clean: what it wrote for the whole test set.
        triggered: what it wrote for the triggered test set; None for the clean model, which has no trigger.
        rejects: whether the defense may reject a prompt.
        beside: float64 [n] by column: what measures of the suite say of it; empty where it asks for none.
    """

    clean: Written
    triggered: Written | None
    rejects: bool
    beside: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    kind: ClassVar[Kind] = Kind.GENERATION

    @property
    def sources(self) -> NDArray[np.int32] | None:
        """int32 [n triggered]: the row of the test set that each triggered prompt was made from."""
        return None if self.triggered is None else self.triggered.sources

    @property
    def fooled(self) -> NDArray[np.bool_]:
        """Bool [n triggered]: the response holds the payload, and is not rejected."""
        assert self.triggered is not None and self.triggered.holds is not None
        return self.triggered.holds
