"""What a defense may touch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
