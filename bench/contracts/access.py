"""What a defense gets to see: exactly what it declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import seeds
from bench.contracts.defended import Defended
from bench.contracts.examples import Examples, Inputs
from bench.contracts.needs import Needs, Other
from bench.contracts.plugin import Budget
from bench.errors import UndeclaredAccess

if TYPE_CHECKING:
    from bench.contracts.plugin import Precision
    from bench.contracts.task import Classifier, TaskFacts


@dataclass(frozen=True)
class Choice:
    """The outcome of the shared selection rule.

    Attributes:
        value: the chosen hyper-parameter.
        defended: the model built with it.
        tried: every candidate with its accuracy on the selection sample, percent.
        required_accuracy: the accuracy that a candidate had to reach, percent.
        passed: whether the chosen one reached it.
    """

    value: float
    defended: Defended
    tried: tuple[tuple[float, float], ...]
    required_accuracy: float
    passed: bool

    def notes(self) -> dict[str, Any]:
        """JSON values for the record."""
        tried = [{"value": value, "selection_acc": accuracy} for value, accuracy in self.tried]
        return {"tried": tried, "selection_floor": self.required_accuracy, "selection_passed": self.passed}


@dataclass(frozen=True)
class Access:
    """Hands over what ``needs`` declares and raises :class:`UndeclaredAccess` on anything else.

    Attributes:
        facts: of the task; anyone may know them.
        needs: what the defense declared.
        seed: the defense's seed.
        precision: arithmetic for its training.
        tolerance: points of accuracy on the selection sample that the shared rule may give up.
        victim: the victim as it was received, for the accuracy that the rule asks for.
        providers: one call for each kind of information.
        budget: how the victim was trained; a defender who trains a model of their own uses the same.
    """

    facts: TaskFacts
    needs: frozenset[Needs]
    seed: int
    precision: Precision
    tolerance: float
    victim: Classifier
    providers: Mapping[str, Callable[[], Any]]
    budget: Budget = field(default_factory=Budget)

    def narrowed(self, needs: frozenset[Needs]) -> Access:
        """Return the access of one part of a chain; the seed stays, so that a part does what it does alone."""
        return replace(self, needs=needs)

    def rng(self, purpose: str) -> np.random.Generator:
        """Return a generator for one purpose of the defense."""
        return seeds.rng("defense", self.seed, purpose)

    def _hand_over(self, name: str, need: str) -> Any:
        if need not in self.needs:
            declared = ", ".join(sorted(self.needs)) or "nothing"
            raise UndeclaredAccess(f"the defense reads {name!r} but declares {declared}; add Needs.{need.upper()}")
        return self.providers[name]()

    @property
    def clean(self) -> Examples:
        """The clean examples to tune on (needs CLEAN)."""
        return self._examples("clean", "clean")

    @property
    def selection(self) -> Examples:
        """The clean examples to choose hyper-parameters on; disjoint from ``clean`` (needs CLEAN)."""
        return self._examples("selection", "clean")

    @property
    def training_set(self) -> Examples:
        """The suspicious training set (needs TRAINING_SET)."""
        return self._examples("training_set", "training_set")

    def _examples(self, name: str, need: str) -> Examples:
        examples: Examples = self._hand_over(name, need)
        return examples

    @property
    def pretrained(self) -> Mapping[str, Any]:
        """Clean pre-trained weights by the parameter names of the classifier, without a head (needs PRETRAINED)."""
        weights: Mapping[str, Any] = self._hand_over("pretrained", "pretrained")
        return weights

    def untrained(self) -> Classifier:
        """Return a new classifier: clean pre-trained encoder, head drawn from the defense's seed (needs PRETRAINED)."""
        classifier: Classifier = self._hand_over("untrained", "pretrained")
        return classifier

    @property
    def unlabelled(self) -> Inputs:
        """Plain text of the task (needs UNLABELLED)."""
        inputs: Inputs = self._hand_over("unlabelled", "unlabelled")
        return inputs

    @property
    def test_stream(self) -> Inputs:
        """The test inputs without labels (needs TEST_STREAM)."""
        inputs: Inputs = self._hand_over("test_stream", "test_stream")
        return inputs

    @property
    def other_models(self) -> Mapping[Other, Classifier]:
        """What the defense's ``others`` asks for, as trained models (needs OTHER_MODELS)."""
        models: Mapping[Other, Classifier] = self._hand_over("other_models", "other_models")
        return models

    @property
    def oracle(self) -> Mapping[str, Any]:
        """The trigger, the target label and the poisoned rows (needs ORACLE)."""
        secrets: Mapping[str, Any] = self._hand_over("oracle", "oracle")
        return secrets

    def accuracy(self, model: Classifier | Defended) -> float:
        """Return the accuracy on the selection sample, percent (needs CLEAN)."""
        defended = model if isinstance(model, Defended) else Defended(model)
        verdicts = defended.predict(self.selection.inputs)
        right = (verdicts.labels == self.selection.labels) & ~verdicts.rejected
        return 100.0 * float(right.mean())

    def rated(self, defended: Defended) -> Defended:
        """Return a model with its accuracy on the selection sample and the one that the rule asks for in its notes.

        With these of every candidate, another rule can be applied to records without training anything. Needs CLEAN.
        """
        required_accuracy = self.accuracy(self.victim) - self.tolerance
        defended.notes.update(selection_acc=self.accuracy(defended), selection_floor=required_accuracy)
        return defended

    def smallest_passing(self, candidates: Iterable[float], build: Callable[[float], Defended]) -> Choice:
        """Return the smallest candidate whose accuracy on ``selection`` is within the tolerance of the victim's.

        The one selection rule of the benchmark: candidates are tried in ascending order and the scan stops at the
        first that passes, which is exact. Where none passes, the most accurate one is taken (the smallest of
        equals) and the choice says so.
        """
        required_accuracy = self.accuracy(self.victim) - self.tolerance
        tried: list[tuple[float, float]] = []
        best: tuple[float, float, Defended] | None = None
        for value in sorted(candidates):
            defended = build(value)
            accuracy = self.accuracy(defended)
            tried.append((value, accuracy))
            if accuracy >= required_accuracy:
                return Choice(value, defended, tuple(tried), required_accuracy, True)
            if best is None or accuracy > best[1]:
                best = (value, accuracy, defended)
        if best is None:
            raise ValueError("no candidates to choose from")
        return Choice(best[0], best[2], tuple(tried), required_accuracy, False)
