"""What a task is, and the classifier and truncation window that belong to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol, Self

from pydantic import Field

from bench.contracts.examples import Examples, Inputs, IntArray
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
