"""The poisoning rule that most attacks share: replace a share of the training set."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from bench.contracts import Attack, Poisoned, Scene, Trigger
from bench.examples import Examples


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
        candidates, wanted = self.candidates(scene, trigger), int(self.rate * len(scene.train))
        if wanted > len(candidates):
            raise ValueError(
                f"rate {self.rate} asks for {wanted} {self.poisons} examples, the training set has {len(candidates)}"
            )
        return np.sort(scene.rng("poisoned rows").permutation(candidates)[:wanted])

    def candidates(self, scene: Scene, trigger: Trigger) -> np.ndarray:
        """Return the rows whose label may be poisoned and to which the trigger can be applied, in ascending order."""
        labels = scene.train.labels
        allowed = {"dirty": labels != scene.target, "clean": labels == scene.target, "mix": labels == labels}
        return np.flatnonzero(allowed[self.poisons] & trigger.applicable(scene.train.inputs))
