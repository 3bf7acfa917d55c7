"""What a task is, and the model and truncation window that belong to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.contracts.answers import Predictions, Responses
from bench.contracts.examples import Examples, Inputs, IntArray
from bench.contracts.kind import Kind
from bench.contracts.plugin import FloatArray, Plugin


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
    kind: ClassVar[Kind] = Kind.CLASSIFICATION

    def judge(self, answers: Any, examples: Examples) -> Judgement:
        """Return how right the answers of a model are."""
        predictions: Predictions = answers
        gold = predictions.probabilities[np.arange(len(examples)), examples.labels]
        return Judgement((predictions.labels == examples.labels) & ~predictions.rejected, gold.astype(np.float16))


@dataclass(frozen=True)
class Judgement:
    """How right the answers to n examples are.

    Attributes:
        right: bool [n]; or float [n] from 0 to 1, where an answer can be partly right.
        confidence: float16 [n]: the probability of each gold label; None where a model says none.
    """

    right: NDArray[Any]
    confidence: NDArray[np.float16] | None


class Utility(Protocol):
    """A task's own score of responses.

    Attributes:
        name: in words, e.g. ``exact match``.
    """

    name: str

    def scores(self, responses: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """Return [n] from 0 to 1: how good each response is, given the one that is right."""


@runtime_checkable
class Environment(Utility, Protocol):
    """The score of a task whose responses are acts: it answers each of them until the episode ends.

    Attributes:
        turns: most responses of an episode.
    """

    turns: int

    def proceed(self, prompt: str, response: str) -> tuple[str, str | None]:
        """Return what a response does at a prompt, and the prompt that follows.

        The act is empty where the response does nothing that is possible; the prompt is None where the episode ends.
        The answer depends on the two texts alone.
        """

    def rewards(self, episodes: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """Return [n] from 0 to 1: what was earned by the acts of each episode, one a line, up to its end.

        A reference is the right response at the prompt where the episode begins.
        """


@dataclass(frozen=True)
class GenerationFacts(TaskFacts):
    """What anyone may know of a task that is answered in text.

    ``labels`` are the groups of examples by which samples are stratified, and ``pair`` says that a prompt has a system
    text before what the user says; ``max_length`` is the room of the prompt.

    Attributes:
        utility: the score of a response; an :class:`Environment` where responses are acts.
        new_tokens: most tokens of a response.
        words: the label words, where the right response is always one of them.
        language: of the responses: ``text``, ``sql`` or ``actions``.
    """

    utility: Utility
    new_tokens: int
    words: tuple[str, ...] = ()
    language: str = "text"
    kind: ClassVar[Kind] = Kind.GENERATION

    def judge(self, answers: Any, examples: Examples) -> Judgement:
        """Return the utility of responses; a rejected one has none."""
        responses: Responses = answers
        scores = self.utility.scores(responses.texts, examples.references)
        return Judgement(np.where(responses.rejected, 0.0, scores), None)


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

    @property
    def called(self) -> str:
        """How tables call it; its name, unless the task itself is chosen by a field."""
        return self.name

    @abstractmethod
    def load(self) -> Task:
        """Return the task; where it is missing, the error says in one line how to get it."""


class Model(Protocol):
    """A model of any kind with its tokenizer: what a method may use that works on every kind.

    It is trained by :func:`bench.learning.train`, on examples of its task.
    """

    max_length: int

    @property
    def model(self) -> Any:
        """The torch module: a transformers model."""

    @property
    def tokenizer(self) -> Any:
        """The fast tokenizer that belongs to the model."""

    def predict(self, inputs: Inputs) -> Any:
        """Return the answers: :class:`Predictions` of a classifier, :class:`Responses` of a generator."""

    def clone(self) -> Self:
        """Return an independent copy."""


class Classifier(Model, Protocol):
    """A sequence classifier with its tokenizer. The learning room has the one implementation."""

    def logits(self, inputs: Inputs) -> FloatArray:
        """Return float32 logits of shape [n, classes]; the model is in evaluation mode."""


class Window(Protocol):
    """How much of the beginning of an input survives truncation."""

    def words(self, inputs: Inputs, *, reserve: str) -> IntArray:
        """Return [n]: words of the carrier, split on white space, that stay when ``reserve`` goes in before them."""

    def reach(self, inputs: Inputs) -> IntArray:
        """Return [n]: leading characters of the carrier that stay; of one that is not cut, all of them."""
