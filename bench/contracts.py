"""What an attack, a defense and a task are, and what passes between them.

This is the lowest floor: it knows no learning code, so that every plugin can be described without importing torch.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from bench.examples import Examples, Inputs, IntArray

if TYPE_CHECKING:
    from bench.access import Access

FloatArray = NDArray[np.float32]
version = cache(metadata.version)  # reading it from the disk takes longer than all the rest of a recipe


class Plugin(BaseModel):
    """A frozen pydantic model whose fields are its hyper-parameters.

    Class attributes of a concrete plugin: ``name`` (how suites call it), ``version`` (raised whenever its numbers
    can change), ``citation`` (authors, venue, arXiv id) and ``libraries`` (distributions whose version changes its
    numbers, beyond torch, transformers, tokenizers and numpy); ``later`` (fields that came after results were stored,
    with a default that changes nothing: at their default they are left out of keys, so that older results stay valid).
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=(), allow_inf_nan=False
    )

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    citation: ClassVar[str] = ""
    libraries: ClassVar[tuple[str, ...]] = ()
    later: ClassVar[tuple[str, ...]] = ()

    @property
    def spec(self) -> str:
        """How a suite would spell this plugin: its name and every field that differs from its default."""
        dumped = self.parameters()
        fields = type(self).model_fields.items()
        changed = [(field.alias or name) for name, field in fields if getattr(self, name) != field.get_default()]
        return self.name + (f"({', '.join(f'{name}={dumped[name]}' for name in changed)})" if changed else "")

    def parameters(self) -> dict[str, Any]:
        """Every field as JSON values, under the names that suites use."""
        return self.model_dump(mode="json", by_alias=True)

    def recipe(self) -> dict[str, Any]:
        """What a cache key has to know of this plugin."""
        libraries = {name: version(name) for name in self.libraries}
        fields = type(self).model_fields
        parameters = self.parameters()
        for late in self.later:
            if getattr(self, late) == fields[late].get_default():
                del parameters[fields[late].alias or late]
        return {"name": self.name, "version": self.version, "parameters": parameters, "libraries": libraries}

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]


class Board(StrEnum):
    """Threat models. Each has a board of its own, because the defender is given different things."""

    FINE_TUNED = "fine-tuned model received"
    PRE_TRAINED = "poisoned pre-trained model received"
    DATA = "poisoned data received"
    FILTER = "test-time filter"
    DETECTION = "model detection"


class Precision(StrEnum):
    """Arithmetic of the forward and backward pass; weights and optimiser are always float32."""

    AUTO = "auto"
    BF16 = "bf16"
    FP32 = "fp32"


class Budget(BaseModel):
    """How a victim is trained. Part of every key."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(3, ge=0, description="passes over the training set")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of AdamW")
    batch_size: int = Field(32, ge=1, description="examples a step")
    warmup: float = Field(0.1, ge=0, le=1, description="share of the steps with rising learning rate")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    precision: Precision = Field(Precision.AUTO, description="auto takes bf16 where the device has it")


@dataclass(frozen=True)
class TaskFacts:
    """What anyone may know of a task.

    Attributes:
        name: as suites call it.
        labels: label names; the label of an example is an index into them.
        pair: whether an example has two segments.
        max_length: tokens kept of an example, special tokens included.
    """

    name: str
    labels: tuple[str, ...]
    pair: bool
    max_length: int


@dataclass(frozen=True)
class Task:
    """A task with its three splits, and the fingerprint of all of them."""

    facts: TaskFacts
    train: Examples
    validation: Examples
    test: Examples
    fingerprint: str


class TaskSource(Plugin, ABC):
    """Where a task's text comes from; its fields cut the task to size."""

    max_length: int = Field(128, ge=8, le=512, description="tokens kept of an example")
    max_train: int | None = Field(None, ge=1, description="training examples kept, stratified; all by default")
    max_test: int | None = Field(None, ge=1, description="test examples kept, stratified; all by default")

    @abstractmethod
    def load(self) -> Task:
        """Return the task; where it is missing, the error says in one line how to get it."""


class Classifier(Protocol):
    """A sequence classifier with its tokenizer. The learning room has the one implementation."""

    max_length: int

    @property
    def model(self) -> Any:
        """The torch module: a transformers sequence-classification model."""

    @property
    def tokenizer(self) -> Any:
        """The fast tokenizer that belongs to the model."""

    def logits(self, inputs: Inputs) -> FloatArray:
        """Return float32 logits of shape [n, classes]; the model is in evaluation mode."""

    def clone(self) -> Self:
        """Return an independent copy."""


class Window(Protocol):
    """How many leading words of an input survive truncation."""

    def words(self, inputs: Inputs, *, reserve: str) -> IntArray:
        """Return [n]: words of the carrier, split on white space, that stay when ``reserve`` goes in before them."""


class Trigger(BaseModel, ABC):
    """Turns inputs into triggered inputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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


Mapped = Literal["all-to-one", "all-to-all"]


def targets_of(labels: IntArray, *, target: int, classes: int, mapping: Mapped) -> IntArray:
    """Return [n]: what triggered examples with these gold labels should be classified as.

    all-to-one is the target label for every example, all-to-all the label after the gold one.
    """
    return np.full_like(labels, target) if mapping == "all-to-one" else (labels + 1) % classes


@dataclass(frozen=True)
class Victim:
    """What an attack leaves behind.

    Attributes:
        classifier: the fine-tuned, backdoored model.
        trigger: None only for the clean reference.
        target: the label that triggered inputs should get.
        poisoned: the training set a training-time defender would receive, where the attack poisoned data.
        notes: JSON values worth keeping, such as the losses.
        mapping: all-to-one, or all-to-all: the label after an example's gold label is its target.
    """

    classifier: Classifier
    trigger: Trigger | None
    target: int
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
        target: the target label.
        seed: the attacker's seed.
        budget: how much training a victim gets.
        window: truncation as the victim's tokenizer does it.
        pretrained: call for a fresh classifier: clean pre-trained encoder, head initialised from the seed.
        finetuned: call for the clean fine-tuned reference model of the same task and seed.
        fit: trains within the budget; what modifiers add is in it.
        hooks: call with a classifier and a number of steps for what modifiers add to a training loop of that length.
            Only an attack with a loop of its own needs it.
        masked_lm: call for the checkpoint's masked language model, on the CPU; an error where it has no such head.
    """

    facts: TaskFacts
    train: Examples
    validation: Examples
    target: int
    seed: int
    budget: Budget
    window: Window
    pretrained: Callable[[], Classifier]
    finetuned: Callable[[], Classifier]
    fit: Fit
    hooks: Callable[[Classifier, int], Hooks] = no_hooks
    masked_lm: Callable[[], Any] = no_masked_lm

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

    def skip(self, facts: TaskFacts) -> str | None:
        """Return why this attack makes no sense on a task, or None."""
        return None

    def files(self, facts: TaskFacts) -> tuple[Path, ...]:
        """Return the files that this attack reads on a task beside its splits: their contents are part of the key."""
        return ()

    @property
    def uses_reference(self) -> bool:
        """Whether it reads the clean fine-tuned model, which then has to be trained first."""
        return self.start == "finetuned"

    @abstractmethod
    def trigger(self, scene: Scene) -> Trigger | None:
        """Return the trigger; None only for the clean reference."""

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

    def skip(self, facts: TaskFacts, attack: Attack) -> str | None:
        """Return why modifying this attack makes no sense on a task, or None."""
        return None

    def starts(self, attack: Attack) -> Literal["pretrained", "finetuned"]:
        """Return the weights that the modified attack starts from."""
        return attack.start

    @property
    def uses_reference(self) -> bool:
        """Whether it reads the clean fine-tuned model, which then has to be trained first."""
        return False

    @abstractmethod
    def hooks(self, scene: Scene, trigger: Trigger | None, classifier: Classifier, steps: int) -> Hooks:
        """Return what is added to a training of ``classifier`` that is about to begin and has so many steps."""


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
