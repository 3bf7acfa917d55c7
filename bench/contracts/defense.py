"""What a defense is: what it may touch, what it predicts, and the board on which it is compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bench.contracts.attack import Attack
from bench.contracts.plugin import Board, FloatArray, Plugin
from bench.contracts.task import Classifier, TaskFacts
from bench.examples import Inputs, IntArray

if TYPE_CHECKING:
    from bench.access import Access


class Needs(StrEnum):
    """What a defense may touch."""

    CLEAN = "clean"  # n clean labelled examples, and the selection sample
    PRETRAINED = "pretrained"  # the clean pre-trained weights
    TRAINING_SET = "training_set"  # the suspicious training set
    UNLABELLED = "unlabelled"  # plain text of the task
    TEST_STREAM = "test_stream"  # the test inputs, as a stream without labels
    OTHER_MODELS = "other_models"  # models of the same task and architecture that others fine-tuned
    ORACLE = "oracle"  # the trigger and the target label: every table marks it


@dataclass(frozen=True)
class Other:
    """A model that somebody else fine-tuned for the same task from the same pre-trained weights.

    Attributes:
        attack: how its owner trained it, as a suite spells it; ``clean`` for none. The defense is not told.
        shift: its seed is the victim's plus this.
        part: ``(i, n)``: trained on the i-th of n disjoint parts of the training set; None for all of it.
        same_head: whether its classification head was initialised as the victim's was.
    """

    attack: str
    shift: int
    part: tuple[int, int] | None = None
    same_head: bool = False


@dataclass(frozen=True)
class Verdicts:
    """Predictions for n inputs.

    Attributes:
        labels: int64 [n].
        probabilities: float32 [n, classes].
        rejected: bool [n]: the defense refuses to answer.
    """

    labels: IntArray
    probabilities: FloatArray
    rejected: NDArray[np.bool_]


def softmax(logits: FloatArray) -> FloatArray:
    """Return probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: FloatArray = (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)
    return result


@dataclass
class Defended:
    """A classifier behind a defense. Purified weights are just a classifier; filters override ``predict``.

    Attributes:
        classifier: the model after the defense.
        notes: JSON values for the record, such as the reserve ratio and the candidates tried.
    """

    classifier: Classifier
    notes: dict[str, Any] = field(default_factory=dict)
    rejects: ClassVar[bool] = False

    def predict(self, inputs: Inputs) -> Verdicts:
        """Return one verdict for each input."""
        logits = self.classifier.logits(inputs)
        labels = logits.argmax(axis=-1).astype(np.int64)
        return Verdicts(labels, softmax(logits), np.zeros(len(inputs), dtype=bool))


class Defense(Plugin, ABC):
    """Removes or blocks a backdoor with what it ``needs``, and nothing else.

    Class attributes:
        needs: what ``access`` hands over.
        purifies: whether the result is a plain classifier, so that another defense can follow in a ``+`` chain.
        kind: purifies the weights, trains from poisoned data, filters inputs at test time, or detects bad models.
        candidates: the field that the shared selection rule chooses and the values that it tries, if there is one.
    """

    needs: ClassVar[frozenset[Needs]] = frozenset()
    purifies: ClassVar[bool] = True
    kind: ClassVar[Literal["purification", "training", "filter", "detection"]] = "purification"
    candidates: ClassVar[tuple[str, tuple[float, ...]] | None] = None

    def skip(self, facts: TaskFacts) -> str | None:
        """Return why this defense makes no sense on a task, or None."""
        return None

    def others(self) -> tuple[Other, ...]:
        """Return the models that ``access.other_models`` holds, for a defense that needs them; they get trained."""
        return ()

    @abstractmethod
    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Return the defended model. ``classifier`` is this defense's own copy and may be changed in place."""


@dataclass(frozen=True)
class Suspicion:
    """What a detector says of a model.

    Attributes:
        score: the higher, the more suspicious; only its order among models of one task and architecture counts.
        notes: JSON values for the record.
    """

    score: float
    notes: Mapping[str, Any] = field(default_factory=dict)


class Detector(Defense):
    """Says how suspicious a model is, and changes nothing. It is scored by AUROC over victims and clean models."""

    purifies: ClassVar[bool] = False
    kind: ClassVar[Literal["purification", "training", "filter", "detection"]] = "detection"

    @abstractmethod
    def suspicion(self, classifier: Classifier, access: Access) -> Suspicion:
        """Return a finite score. ``classifier`` is this detector's own copy and may be changed in place."""

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Return an unchanged copy of the model with the score among the notes."""
        unchanged = classifier.clone()
        found = self.suspicion(classifier, access)
        return Defended(unchanged, {**found.notes, "suspicion": found.score})


def board_of(attack: Attack, defense: Defense) -> Board:
    """Return the board on which a defense against an attack is compared."""
    match defense.kind:
        case "training":
            return Board.DATA
        case "filter":
            return Board.FILTER
        case "detection":
            return Board.DETECTION
    return Board.PRE_TRAINED if attack.received == "pre-trained" else Board.FINE_TUNED
