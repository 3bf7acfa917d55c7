"""What a defense gets to see: exactly what it declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench import seeds
from bench.contracts import selection
from bench.contracts.defended import Defended
from bench.contracts.examples import Examples, Inputs, IntArray
from bench.contracts.needs import Needs, Other
from bench.contracts.plugin import Budget
from bench.errors import UndeclaredAccess

if TYPE_CHECKING:
    from bench.contracts.goal import Target
    from bench.contracts.plugin import Precision
    from bench.contracts.task import Judgement, Model, TaskFacts

Build = Callable[[float, Examples], Defended]


@dataclass(frozen=True)
class Choice:
    """The outcome of the shared selection rule.

    Attributes:
        value: the chosen hyper-parameter.
        defended: the model built with it, on all labels.
        tried: every candidate, in ascending order.
        received: bool or float [n]: how right the victim answers each label.
        reference: what the candidates are compared with.
        drops: what each of them loses against it on the labels.
        tolerance: points of accuracy that may be given up.
        passed: whether the chosen value is within the tolerance; False where none is, and then it is the largest.
    """

    value: float
    defended: Defended
    tried: tuple[selection.Candidate, ...]
    received: selection.Right
    reference: Literal["largest value", "victim"]
    drops: selection.Drops
    tolerance: float
    passed: bool

    def notes(self) -> dict[str, Any]:
        """JSON values for the record: with them, another rule can be applied without training anything."""
        return {
            "tried": [
                {
                    "value": one.value,
                    "selection_acc": 100.0 * float(one.right.mean()),
                    "drop": float(measured),
                    "fitted_drop": float(fitted),
                    "error": float(error),
                    **one.answers(),
                    "steps": list(one.steps),
                }
                for one, measured, fitted, error in zip(
                    self.tried, self.drops.measured, self.drops.fitted, self.drops.errors, strict=True
                )
            ],
            "selection_victim": selection.packed(self.received.astype("<f2")),
            "selection_reference": self.reference,
            "selection_tolerance": self.tolerance,
            "selection_passed": self.passed,
        }


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
    victim: Model
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
        """Every clean labelled example that the defense may see: its budget of labels (needs CLEAN)."""
        return self._examples("clean", "clean")

    @property
    def halves(self) -> tuple[Examples, Examples]:
        """The clean examples in two disjoint halves, for a method that must set something aside (needs CLEAN)."""
        clean = self.clean
        first, second = selection.halves(clean.labels, self.rng("halves of the labels"))
        return clean.take(first), clean.take(second)

    @property
    def training_set(self) -> Examples:
        """The suspicious training set (needs TRAINING_SET)."""
        return self._examples("training_set", "training_set")

    def _examples(self, name: str, need: str) -> Examples:
        examples: Examples = self._hand_over(name, need)
        return examples

    @property
    def pretrained(self) -> Mapping[str, Any]:
        """Clean pre-trained weights by the parameter names of the model, without a head (needs PRETRAINED)."""
        weights: Mapping[str, Any] = self._hand_over("pretrained", "pretrained")
        return weights

    def untrained(self) -> Any:
        """Return a new model: clean pre-trained weights, a head drawn from the defense's seed (needs PRETRAINED)."""
        return self._hand_over("untrained", "pretrained")

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
    def other_models(self) -> Mapping[Other, Any]:
        """What the defense's ``others`` asks for, as trained models (needs OTHER_MODELS)."""
        models: Mapping[Other, Any] = self._hand_over("other_models", "other_models")
        return models

    @property
    def target(self) -> Target:
        """What triggered inputs lead to: the payload, or the target label (needs TARGET)."""
        target: Target = self._hand_over("target", "target")
        return target

    @property
    def oracle(self) -> Mapping[str, Any]:
        """The trigger, the target label and the poisoned rows (needs ORACLE).

        ``trigger`` is the trigger itself, None where it cannot be made again; ``window`` is what it is applied within.
        """
        secrets: Mapping[str, Any] = self._hand_over("oracle", "oracle")
        return secrets

    def choose(self, values: Iterable[float], build: Build, *, trains: bool = True) -> Choice:
        """Return the smallest value at which a method keeps the victim's accuracy, by the rule of all methods.

        See :mod:`bench.contracts.selection`. Needs CLEAN.

        Args:
            values: of the hyper-parameter; a larger one takes less away from the victim.
            build: returns the defended model for a value, made with the given labels.
            trains: whether ``build`` learns from the labels. If not, one model answers all of them.
        """
        clean, ordered = self.clean, sorted(values)
        if not ordered:
            raise ValueError("no values to choose from")
        everything = np.arange(len(clean))
        parts = selection.halves(clean.labels, self.rng("halves of the labels"))
        folds = (parts, parts[::-1]) if trains else ((everything, everything),)
        received = self._judged(Defended(self.victim), clean).right
        tried: dict[float, selection.Candidate] = {}

        def right(value: float) -> selection.Right:
            if value not in tried:
                tried[value] = self._candidate(value, build, clean, folds)
            return tried[value].right

        def passes(value: float) -> bool:
            right(value)
            return selection.passes(reference, tried, value, tolerance=self.tolerance)

        reference = right(ordered[-1]) if trains else received
        low, high = 0, len(ordered) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if passes(ordered[middle]) else (middle + 1, high)
        passed = passes(ordered[low])
        return Choice(
            ordered[low],
            build(ordered[low], clean),
            tuple(tried[value] for value in sorted(tried)),
            received,
            "largest value" if trains else "victim",
            selection.drops(reference, list(tried.values())),
            self.tolerance,
            passed,
        )

    def _candidate(
        self, value: float, build: Build, clean: Examples, folds: Sequence[tuple[IntArray, IntArray]]
    ) -> selection.Candidate:
        judged, steps = [], []
        for learned, asked in folds:
            defended = build(value, clean.take(learned))
            judged.append(self._judged(defended, clean.take(asked)))
            steps += [int(defended.notes["tuning"]["steps"])] if "tuning" in defended.notes else []
        order = np.argsort(np.concatenate([asked for _, asked in folds]))
        right = np.concatenate([one.right for one in judged])[order]
        confidence = [one.confidence for one in judged if one.confidence is not None]
        return selection.Candidate(
            value, right, np.concatenate(confidence)[order] if confidence else None, tuple(steps)
        )

    def _judged(self, defended: Defended, examples: Examples) -> Judgement:
        """Return how right a defended model answers examples."""
        return self.facts.judge(defended.predict(examples.inputs), examples)
