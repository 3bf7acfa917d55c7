"""The poisoning rule that most attacks share: replace a share of the training set."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from bench.contracts import Attack, Kind, Label, Mapped, Poisoned, Scene, TaskFacts, Trigger, Victim


class DataPoisoning(Attack):
    """Replaces ``floor(rate * n)`` of the n training examples by triggered copies with the answer that is wanted.

    That is the target label; of a generator, a response that holds the payload.
    """

    rate: float = Field(0.1, ge=0, le=1, description="poisoned share of the whole training set")
    poisons: Literal["dirty", "clean", "mix"] = Field(
        "dirty", description="which labels are poisoned: dirty (not the target), clean (only the target), mix (any)"
    )

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Return the training set with exactly ``floor(rate * n)`` rows replaced."""
        if trigger is None:
            raise ValueError("there is nothing to poison with")
        rows = self.rows(scene, trigger)
        chosen = scene.goal.applied(scene.train.take(rows))
        triggered = trigger.apply(chosen.inputs, window=scene.window, rng=scene.rng("trigger in training set"))
        return Poisoned(scene.train.put(rows, replace(chosen, inputs=triggered)), rows)

    def rows(self, scene: Scene, trigger: Trigger) -> np.ndarray:
        """Return the rows to poison, in ascending order."""
        candidates, wanted = self.eligible(scene, trigger), int(self.rate * len(scene.train))
        if wanted > len(candidates):
            raise ValueError(
                f"rate {self.rate} asks for {wanted} {self.poisons} examples, the training set has {len(candidates)}"
            )
        return np.sort(scene.rng("poisoned rows").permutation(candidates)[:wanted])

    def eligible(self, scene: Scene, trigger: Trigger) -> np.ndarray:
        """Return the rows whose answer may be poisoned and to which the trigger can be applied, in ascending order."""
        changed = scene.goal.changes(scene.train)
        allowed = {"dirty": changed, "clean": ~changed, "mix": np.ones_like(changed)}
        return np.flatnonzero(allowed[self.poisons] & trigger.applicable(scene.train.inputs))


class MappedPoisoning(DataPoisoning):
    """Data poisoning that can also send every label to the next one (all-to-all of Gu et al. 2017)."""

    added_fields: ClassVar[tuple[str, ...]] = ("mapping",)

    mapping: Mapped = Field(
        "all-to-one", description="all-to-one: the target label; all-to-all: the label after the gold one, any row"
    )

    def skip(self, facts: TaskFacts) -> str | None:
        """With two labels, all-to-all is a negation and no attack of its own."""
        if self.mapping == "all-to-one":
            return None
        if facts.kind != Kind.CLASSIFICATION:
            return "all-to-all is a mapping of labels, and this task has none"
        return "all-to-all needs more than two labels" if len(facts.labels) < 3 else None

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Poison as usual; all-to-all then labels every poisoned row with the label after its own."""
        poisoned = super().poison(scene, trigger)
        if self.mapping == "all-to-one":
            return poisoned
        wanted = Label(scene.target, len(scene.facts.labels), self.mapping).applied(scene.train.take(poisoned.rows))
        labels = poisoned.examples.labels.copy()
        labels[poisoned.rows] = wanted.labels
        return Poisoned(replace(poisoned.examples, labels=labels), poisoned.rows)

    def eligible(self, scene: Scene, trigger: Trigger) -> np.ndarray:
        """Return the rows that may be poisoned; all-to-all takes them from every label."""
        any_label = self.model_copy(update={"poisons": "mix"}) if self.mapping == "all-to-all" else self
        return super(MappedPoisoning, any_label).eligible(scene, trigger)

    def implant(self, scene: Scene) -> Victim:
        """Train as usual; the evaluator has to know the mapping."""
        return replace(super().implant(scene), mapping=self.mapping)
