"""Threat models: what a defender receives and knows, when it acts, and what is judged; and the board that follows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from bench.contracts.needs import Needs

# An oracle is shown on every board, and ranked on none; those who know the target have a board of their own.
_FOR_ALL = (Needs.UNLABELLED, Needs.TEST_STREAM, Needs.TARGET, Needs.ORACLE)


class Board(StrEnum):
    """Which defenses are compared with each other: one board for each kind of threat model.

    Attributes:
        sentence: what happens under the threat model.
    """

    FINE_TUNED = (
        "fine-tuned model received",
        "A fine-tuned model that may hold a backdoor is downloaded and purified.",
    )
    PRE_TRAINED = (
        "poisoned pre-trained model received",
        "A pre-trained model that may hold a backdoor is downloaded, fine-tuned, and purified.",
    )
    TARGET_KNOWN = (
        "target known",
        "Somebody saw what a trigger makes a model answer; the model is purified with the knowledge of that answer.",
    )
    DATA = (
        "poisoned data received",
        "A training set that may be poisoned is received; the defender trains on it.",
    )
    FILTER = (
        "test-time filter",
        "The received model is deployed; the defender checks or rewrites every input.",
    )
    DETECTION = (
        "model detection",
        "The defender says how suspicious a whole model is; nothing is repaired.",
    )

    sentence: str

    def __new__(cls, name: str, sentence: str = "") -> Board:
        """Return a member: its value is the name that records state."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.sentence = sentence
        return member

    @property
    def heading(self) -> str:
        """The name with a capital."""
        return self.value[0].upper() + self.value[1:]

    @property
    def judges_models(self) -> bool:
        """Whether whole models are judged here, instead of their predictions."""
        return self is Board.DETECTION


class Holding(StrEnum):
    """What a defender holds at most, beside the received model, plain text and the inputs that it meets.

    Attributes:
        words: for titles.
        needs: what its defenses may declare.
    """

    LABELS = "labels", "labels only", {Needs.CLEAN}
    PRETRAINED = "pretrained", "labels and the pre-trained weights", {Needs.CLEAN, Needs.PRETRAINED}
    OTHER_MODELS = (
        "other models",
        "labels, the pre-trained weights and other models",
        {Needs.CLEAN, Needs.PRETRAINED, Needs.OTHER_MODELS},
    )
    TRAINING_SET = (
        "training set",
        "labels, the pre-trained weights and the training set",
        {Needs.CLEAN, Needs.PRETRAINED, Needs.TRAINING_SET},
    )
    EVERYTHING = "everything", "everything", set(Needs)

    words: str
    needs: frozenset[Needs]

    def __new__(cls, name: str, words: str, needs: Collection[Needs]) -> Holding:
        """Return a member: its value is its name."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.words, member.needs = words, frozenset({*needs, *_FOR_ALL})
        return member

    def allows(self, needs: Collection[str]) -> bool:
        """Whether a defender who holds this can run a defense with these needs; not where a need is unknown."""
        return set(needs) <= self.needs or (self is Holding.EVERYTHING)


class Received(StrEnum):
    """What the defender receives."""

    FINE_TUNED = "fine-tuned model"
    PRE_TRAINED = "poisoned pre-trained model"
    DATA = "poisoned data"


class Acts(StrEnum):
    """When the defender acts."""

    BEFORE_DEPLOYMENT = "before deployment"
    AT_TEST_TIME = "at test time"


class Judged(StrEnum):
    """What is judged of the outcome."""

    PREDICTIONS = "predictions"
    MODEL = "the model"


class Knows(StrEnum):
    """What the defender knows of the backdoor."""

    NOTHING = "nothing"
    TARGET = "what triggered inputs lead to"


@dataclass(frozen=True)
class ThreatModel:
    """What is assumed of a defender.

    Attributes:
        received: what it is given.
        acts: when it acts.
        judged: what is judged.
        knows: what it knows of the backdoor.
    """

    received: Received
    acts: Acts = Acts.BEFORE_DEPLOYMENT
    judged: Judged = Judged.PREDICTIONS
    knows: Knows = Knows.NOTHING

    @property
    def board(self) -> Board:
        """The board on which defenses under this threat model are compared.

        Detectors are on one board whatever they receive, and so are filters: they meet the same models and inputs. Who
        knows the target does not compete with those who do not.
        """
        if self.judged is Judged.MODEL:
            return Board.DETECTION
        if self.knows is Knows.TARGET:
            return Board.TARGET_KNOWN
        if self.acts is Acts.AT_TEST_TIME:
            return Board.FILTER
        match self.received:
            case Received.DATA:
                return Board.DATA
            case Received.PRE_TRAINED:
                return Board.PRE_TRAINED
        return Board.FINE_TUNED
