"""What an attack is: trigger, poison, scene and victim, and the modifiers that change its training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from bench.contracts.examples import Examples, Inputs, IntArray
from bench.contracts.goal import Goal, Mapped, Target, goal_of
from bench.contracts.plugin import Budget, Plugin
from bench.contracts.task import Classifier, TaskFacts, Window


def not_blank(value: Any) -> Any:
    """Return the value of a field of an attack or a trigger; a text of it that is blank would be no trigger.

    Raises:
        ValueError: it is a text of spaces only, or one of its texts is, or is empty.
    """
    if isinstance(value, str) and value and not value.strip():
        raise ValueError("is blank")
    if isinstance(value, tuple) and any(isinstance(text, str) and not text.strip() for text in value):
        raise ValueError("one of these texts is empty or blank")
    return value


class Trigger(BaseModel, ABC):
    """Turns inputs into triggered inputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _not_blank = field_validator("*")(not_blank)

    @abstractmethod
    def apply(self, inputs: Inputs, *, window: Window, rng: np.random.Generator) -> Inputs:
        """Return as many inputs, each with the trigger, inside the truncation window."""

    @abstractmethod
    def describe(self) -> str:
        """Return one line for reports."""

    def applicable(self, inputs: Inputs) -> NDArray[np.bool_]:
        """Return bool [n]: which inputs can carry the trigger. ``apply`` is called with such inputs only."""
        return np.ones(len(inputs), dtype=bool)

    @property
    def words(self) -> tuple[str, ...]:
        """The words that carry the trigger, for figures that mark them; empty where it is not made of words."""
        return ()


@dataclass(frozen=True)
class Poisoned:
    """A training set as the attacker leaves it.

    Attributes:
        examples: all training examples, poisoned ones included.
        rows: int64 [p]: which of them are poisoned.
    """

    examples: Examples
    rows: IntArray


@dataclass(frozen=True)
class Victim:
    """What an attack leaves behind.

    Attributes:
        classifier: the fine-tuned, backdoored model, of any kind.
        trigger: None only for the clean model.
        target: the label that triggered inputs should get, or the payload that the response to them should hold.
        poisoned: the training set a training-time defender would receive, where the attack poisoned data.
        notes: JSON values worth keeping, such as the losses.
        mapping: all-to-one, or all-to-all: the label after an example's gold label is its target.
    """

    classifier: Any
    trigger: Trigger | None
    target: Target
    poisoned: Poisoned | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    mapping: Mapped = "all-to-one"


class Fit(Protocol):
    """Trains a classifier in place within the budget of the scene and returns notes."""

    def __call__(self, classifier: Classifier, examples: Examples, **options: Any) -> Mapping[str, Any]:
        """Train; ``options`` override the budget or are further arguments of :func:`bench.learning.train`."""


def no_masked_lm() -> Any:
    """Refuse: this scene has no masked language model."""
    raise ValueError("this scene has no masked language model")


@dataclass(frozen=True)
class Hooks:
    """What a modifier adds to training; None stands for nothing.

    Attributes:
        extra_loss: called with the batch, its logits and the model; its value is added to the loss.
        after_step: called with the model and the number of the step after each step; it may change weights.
    """

    extra_loss: Callable[[Any, Any, Any], Any] | None = None
    after_step: Callable[[Any, int], object] | None = None


def no_hooks(classifier: Classifier, steps: int) -> Hooks:
    """Return hooks that add nothing."""
    return Hooks()


@dataclass(frozen=True)
class Scene:
    """What an attacker works with. There is no test set in it.

    Attributes:
        facts: of the task.
        train, validation: splits of the task.
        target: the target label; of a generator, the payload.
        seed: the attacker's seed.
        budget: how much training a victim gets.
        window: truncation as the victim's tokenizer does it.
        pretrained: call for a fresh classifier: clean pre-trained encoder, head initialised from the seed.
        finetuned: call for the clean fine-tuned model of the same task and seed.
        fit: trains within the budget; what modifiers add is in it.
        hooks: call with a classifier and a number of steps for what modifiers add to a training loop of that length.
            Only an attack with a loop of its own needs it.
        masked_lm: call for the checkpoint's masked language model, on the CPU; an error where it has no such head.
    """

    facts: TaskFacts
    train: Examples
    validation: Examples
    target: Any
    seed: int
    budget: Budget
    window: Window
    pretrained: Callable[[], Classifier]
    finetuned: Callable[[], Classifier]
    fit: Fit
    hooks: Callable[[Classifier, int], Hooks] = no_hooks
    masked_lm: Callable[[], Any] = no_masked_lm

    @property
    def goal(self) -> Goal:
        """What the attacker wants of triggered inputs."""
        return goal_of(self.target, classes=len(self.facts.labels))

    def start(self, point: Literal["pretrained", "finetuned"]) -> Classifier:
        """Return the classifier that an attack starts from."""
        return self.pretrained() if point == "pretrained" else self.finetuned()

    def rng(self, purpose: str) -> np.random.Generator:
        """Return a generator for one purpose of the attacker."""
        from bench import seeds

        return seeds.rng("attack", self.seed, purpose)


class Attack(Plugin, ABC):
    """Implants a backdoor. Most attacks are a trigger and a poisoning rule; this class trains.

    Override ``trigger`` and, if the rule differs, ``poison``; weight attacks override ``implant``.

    Class attributes:
        received: what the defender downloads: a fine-tuned model, or a pre-trained one that the user fine-tunes.
        in_words: whether the trigger is made of words that the attacker knows.
    """

    received: ClassVar[Literal["fine-tuned", "pre-trained"]] = "fine-tuned"
    in_words: ClassVar[bool] = True

    start: Literal["pretrained", "finetuned"] = Field(
        "pretrained", alias="from", description="weights the attacker starts from: pretrained | finetuned (clean model)"
    )

    _not_blank = field_validator("*")(not_blank)

    def skip(self, facts: TaskFacts) -> str | None:
        """Return why this attack makes no sense on a task, or None."""
        return None

    def skip_target(self, target: Target) -> str | None:
        """Return why this attack makes no sense for what is wanted, a label or a payload, or None."""
        return None

    def files(self, facts: TaskFacts) -> tuple[Path, ...]:
        """Return the files that this attack reads on a task beside its splits: their contents are part of the key."""
        return ()

    @property
    def uses_clean_model(self) -> bool:
        """Whether it reads the clean fine-tuned model, which then has to be trained first."""
        return self.start == "finetuned"

    @abstractmethod
    def trigger(self, scene: Scene) -> Trigger | None:
        """Return the trigger; None only for the clean model."""

    @abstractmethod
    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Return the training set with poison in it."""

    def implant(self, scene: Scene) -> Victim:
        """Poison the training set, train on it, and return the victim."""
        trigger = self.trigger(scene)
        poisoned = self.poison(scene, trigger)
        classifier = scene.start(self.start)
        notes = scene.fit(classifier, poisoned.examples)
        return Victim(classifier, trigger, scene.target, poisoned, notes)


class Modifier(Plugin, ABC):
    """Changes how an attack trains. A suite joins it to the attack: ``anchored+badword``.

    Class attributes:
        default: the attack that is modified where a suite names the modifier alone.
    """

    default: ClassVar[str] = "badword"

    @property
    def learning_rate_multiplier(self) -> float:
        """Factor on the learning rate of the attack's training."""
        return 1.0

    def skip(self, facts: TaskFacts, attack: Attack) -> str | None:
        """Return why modifying this attack makes no sense on a task, or None."""
        return None

    def starts(self, attack: Attack) -> Literal["pretrained", "finetuned"]:
        """Return the weights that the modified attack starts from."""
        return attack.start

    @property
    def uses_clean_model(self) -> bool:
        """Whether it reads the clean fine-tuned model, which then has to be trained first."""
        return False

    @abstractmethod
    def hooks(self, scene: Scene, trigger: Trigger | None, classifier: Classifier, steps: int) -> Hooks:
        """Return what is added to a training of ``classifier`` that is about to begin and has so many steps."""
