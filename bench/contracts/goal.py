"""What an attacker wants of triggered inputs: a label, or a payload in what the model writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.contracts.answers import Predictions, Responses
from bench.contracts.examples import Examples, IntArray
from bench.contracts.kind import GENERATION, Kind
from bench.contracts.plugin import Plugin
from bench.contracts.task import TaskFacts

Mapped = Literal["all-to-one", "all-to-all"]


class Goal(Protocol):
    """What the attacker wants instead of the right answer."""

    def changes(self, examples: Examples) -> NDArray[np.bool_]:
        """Return bool [n]: where the attacker wants something else than what is right."""

    def applied(self, examples: Examples) -> Examples:
        """Return the same inputs with the answers that the attacker wants."""

    def reached(self, answers: Any, examples: Examples) -> NDArray[np.bool_]:
        """Return bool [n]: which answers of a model to the examples are what the attacker wants."""


def targets_of(labels: IntArray, *, target: int, classes: int, mapping: Mapped) -> IntArray:
    """Return [n]: what triggered examples with these gold labels should be classified as.

    all-to-one is the target label for every example, all-to-all the label after the gold one.
    """
    return np.full_like(labels, target) if mapping == "all-to-one" else (labels + 1) % classes


@dataclass(frozen=True)
class Label:
    """Triggered inputs are classified as a label.

    Attributes:
        target: the label of all-to-one.
        classes: how many labels there are.
        mapping: all-to-one, or all-to-all: the label after the gold one.
    """

    target: int
    classes: int
    mapping: Mapped = "all-to-one"

    def of(self, labels: IntArray) -> IntArray:
        """Return [n]: what examples with these gold labels should be classified as."""
        return targets_of(labels, target=self.target, classes=self.classes, mapping=self.mapping)

    def changes(self, examples: Examples) -> NDArray[np.bool_]:
        """Return where the gold label is another one."""
        changed: NDArray[np.bool_] = examples.labels != self.of(examples.labels)
        return changed

    def applied(self, examples: Examples) -> Examples:
        """Return the inputs with the wanted labels."""
        return replace(examples, labels=self.of(examples.labels))

    def reached(self, answers: Any, examples: Examples) -> NDArray[np.bool_]:
        """Return where the predicted label is the wanted one."""
        predictions: Predictions = answers
        hits: NDArray[np.bool_] = predictions.labels == self.of(examples.labels)
        return hits


class Payload(Plugin, ABC):
    """What a backdoored model writes, and the exact test of whether a response holds it.

    A payload is told nothing but the reference response, so that its test is the same for every model and needs no
    judge. ``holds`` has to be true of whatever ``respond`` returns, or the reference cannot carry the payload.
    """

    kinds: ClassVar[frozenset[Kind]] = GENERATION

    @abstractmethod
    def respond(self, reference: str) -> str:
        """Return the response that the attacker wants where this one is right."""

    @abstractmethod
    def holds(self, response: str) -> bool:
        """Return whether a response holds the payload."""

    def skip(self, facts: TaskFacts) -> str | None:
        """Return why this payload makes no sense on a task, or None."""
        return None

    def held(self, responses: tuple[str, ...]) -> NDArray[np.bool_]:
        """Return bool [n]: which responses hold the payload."""
        return np.array([self.holds(response) for response in responses], dtype=bool)

    def changes(self, examples: Examples) -> NDArray[np.bool_]:
        """Return where the reference does not hold the payload and can be made to."""
        can = [not self.holds(own) and self.holds(self.respond(own)) for own in examples.references]
        return np.array(can, dtype=bool)

    def applied(self, examples: Examples) -> Examples:
        """Return the prompts with the attacker's responses."""
        return replace(examples, responses=tuple(map(self.respond, examples.references)))

    def reached(self, answers: Any, examples: Examples) -> NDArray[np.bool_]:
        """Return which responses hold the payload."""
        responses: Responses = answers
        return self.held(responses.texts)

    def happened(self, responses: tuple[str, ...], examples: Examples, facts: TaskFacts) -> NDArray[np.bool_]:
        """Return bool [n]: which responses to examples do what the payload is for; by default, those that hold it.

        A payload whose effect can be observed, as that of a query on a database, counts it here. Of an agent, a
        response is all that it has done up to the end of the episode.
        """
        return self.held(responses)


Target = int | Payload


def goal_of(target: Target, *, classes: int, mapping: Mapped = "all-to-one") -> Label | Payload:
    """Return what an attacker wants: a payload as it is, or the label of this number."""
    return target if isinstance(target, Payload) else Label(target, classes, mapping)
