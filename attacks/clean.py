"""No attack: the clean model of every table."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bench.contracts import BOTH, Attack, Kind, Poisoned, Scene, Trigger


class Clean(Attack):
    """Trains on the untouched training set: the clean model.

    Its accuracy is the ceiling and its attack success rate on another attack's triggered set is the floor of
    every table.
    """

    name: ClassVar[str] = "clean"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH

    def trigger(self, scene: Scene) -> Trigger | None:
        """There is none."""
        return None

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Return the training set as it is."""
        return Poisoned(scene.train, np.zeros(0, dtype=np.int64))
