"""What a defense may touch, and what tables and pages call it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

ONLY_THE_MODEL = "only the model"


class Needs(StrEnum):
    """What a defense may touch, in the order of tables.

    Attributes:
        short: a word for a badge.
        words: for a table.
        guide: the clause of a reading guide.
    """

    CLEAN = "clean", "clean", "clean data", "clean labelled examples of the task"
    PRETRAINED = (
        "pretrained",
        "pre-trained",
        "pre-trained weights",
        "the clean pre-trained weights that the model started from",
    )
    TRAINING_SET = "training_set", "training set", "training set", "the training set, which may be poisoned"
    OTHER_MODELS = "other_models", "other models", "other models", "models of the same task that others trained"
    UNLABELLED = "unlabelled", "plain text", "plain text", "plain text of the task, without labels"
    TEST_STREAM = "test_stream", "stream", "test stream", "the inputs that the deployed model meets"
    TARGET = (
        "target",
        "target",
        "the target",
        "what triggered inputs lead to: the payload, or the target label",
    )
    ORACLE = (
        "oracle",
        "oracle",
        "oracle",
        "the trigger and the target label: no real defender has them, so it is shown but never ranked",
    )

    short: str
    words: str
    guide: str

    def __new__(cls, name: str, short: str = "", words: str = "", guide: str = "") -> Needs:
        """Return a member: its value is the name that records and keys state."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.short, member.words, member.guide = short, words, guide
        return member


def needs_in_words(needs: Collection[str]) -> str:
    """Return what a defense touches, besides the model that it is to defend; an unknown need is named as it is."""
    known = [need.words for need in Needs if need in needs]
    return ", ".join([*known, *(need for need in needs if need not in set(Needs))]) or ONLY_THE_MODEL


def needs_in_short(needs: Collection[str]) -> str:
    """Return the most telling of a defense's needs, so that a chart has few groups."""
    for need in (Needs.ORACLE, Needs.TARGET, Needs.TRAINING_SET, Needs.OTHER_MODELS):
        if need in needs:
            return need.words
    if Needs.CLEAN in needs:
        return Needs.CLEAN.words + (f" + {Needs.PRETRAINED.short}" if Needs.PRETRAINED in needs else "")
    if Needs.PRETRAINED in needs:
        return Needs.PRETRAINED.words
    if {Needs.TEST_STREAM, Needs.UNLABELLED} & set(needs):
        return f"{Needs.TEST_STREAM.words} or {Needs.UNLABELLED.words}"
    return needs_in_words(needs)


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
