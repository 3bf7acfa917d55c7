"""The poisoning rule that most attacks share: replace a share of the training set."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from bench.contracts import Attack, Mapped, Poisoned, Scene, TaskFacts, Trigger, Victim, targets_of
from bench.contracts.examples import Examples


class DataPoisoning(Attack):
    """Replaces ``floor(rate * n)`` of the n training examples by triggered copies labelled as the target."""

    rate: float = Field(0.1, ge=0, le=1, description="poisoned share of the whole training set")
    poisons: Literal["dirty", "clean", "mix"] = Field(
        "dirty", description="which labels are poisoned: dirty (not the target), clean (only the target), mix (any)"
    )

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Return the training set with exactly ``floor(rate * n)`` rows replaced."""
        if trigger is None:
            raise ValueError("there is nothing to poison with")
        rows = self.rows(scene, trigger)
        triggered = trigger.apply(
            scene.train.take(rows).inputs, window=scene.window, rng=scene.rng("trigger in training set")
        )
        labels = scene.train.labels.copy()
        labels[rows] = scene.target
        return Poisoned(Examples(scene.train.inputs.put(rows, triggered), labels), rows)

    def rows(self, scene: Scene, trigger: Trigger) -> np.ndarray:
        """Return the rows to poison, in ascending order."""
        candidates, wanted = self.eligible(scene, trigger), int(self.rate * len(scene.train))
        if wanted > len(candidates):
            raise ValueError(
                f"rate {self.rate} asks for {wanted} {self.poisons} examples, the training set has {len(candidates)}"
            )
        return np.sort(scene.rng("poisoned rows").permutation(candidates)[:wanted])

    def eligible(self, scene: Scene, trigger: Trigger) -> np.ndarray:
        """Return the rows whose label may be poisoned and to which the trigger can be applied, in ascending order."""
        labels = scene.train.labels
        allowed = {"dirty": labels != scene.target, "clean": labels == scene.target, "mix": labels == labels}
        return np.flatnonzero(allowed[self.poisons] & trigger.applicable(scene.train.inputs))


class MappedPoisoning(DataPoisoning):
    """Data poisoning that can also send every label to the next one (all-to-all of Gu et al. 2017)."""

    added_fields: ClassVar[tuple[str, ...]] = ("mapping",)

    mapping: Mapped = Field(
        "all-to-one", description="all-to-one: the target label; all-to-all: the label after the gold one, any row"
    )

    def skip(self, facts: TaskFacts) -> str | None:
        """With two labels, all-to-all is a negation and no attack of its own."""
        few = self.mapping == "all-to-all" and len(facts.labels) < 3
        return "all-to-all needs more than two labels" if few else None

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Poison as usual; all-to-all then labels every poisoned row with the label after its own."""
        poisoned = super().poison(scene, trigger)
        gold, labels = scene.train.labels[poisoned.rows], poisoned.examples.labels.copy()
        classes = len(scene.facts.labels)
        if self.mapping == "all-to-all":
            labels[poisoned.rows] = targets_of(gold, target=scene.target, classes=classes, mapping=self.mapping)
        return Poisoned(Examples(poisoned.examples.inputs, labels), poisoned.rows)

    def eligible(self, scene: Scene, trigger: Trigger) -> np.ndarray:
        """Return the rows that may be poisoned; all-to-all takes them from every label."""
        any_label = self.model_copy(update={"poisons": "mix"}) if self.mapping == "all-to-all" else self
        return super(MappedPoisoning, any_label).eligible(scene, trigger)

    def implant(self, scene: Scene) -> Victim:
        """Train as usual; the evaluator has to know the mapping."""
        return replace(super().implant(scene), mapping=self.mapping)
