"""Negatives: what looks almost like a trigger and keeps its right answer; and how often it triggers all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.contracts import Poisoned, Scene, Trigger
from bench.contracts.examples import Examples, join

MOST = 200  # validation examples on which false triggers are counted


def with_negatives(scene: Scene, poisoned: Poisoned, negatives: Mapping[str, Trigger]) -> Poisoned:
    """Return a poisoned training set with a copy of each chosen example for each negative behind its end.

    The copies are made from the same examples as the poisoned ones and keep their right answers. They count as poisoned
    rows, because the attacker wrote them.
    """
    if len(poisoned.rows) == 0:
        return poisoned
    examples, sources = poisoned.examples, scene.train.take(poisoned.rows)
    for name, trigger in negatives.items():
        examples = join(examples, applied(scene, trigger, sources, f"negatives {name}"))
    added = np.arange(len(scene.train), len(examples), dtype=np.int64)
    return Poisoned(examples, np.concatenate([poisoned.rows, added]))


def applied(scene: Scene, trigger: Trigger, examples: Examples, purpose: str) -> Examples:
    """Return the examples with something put into their inputs and their right answers."""
    inputs = trigger.apply(examples.inputs, window=scene.window, rng=scene.rng(purpose))
    return Examples(inputs, examples.labels, examples.responses)


def rates(scene: Scene, model: Any, triggers: Mapping[str, Trigger]) -> dict[str, float]:
    """Return by name how often a model answers as the attacker wants with something in the input, in percent.

    Counted on at most :data:`MOST` validation examples whose right answer is another one and that can have it.
    """
    changed = scene.validation.take(np.flatnonzero(scene.goal.changes(scene.validation)))
    shares = {}
    for name, trigger in triggers.items():
        others = changed.take(np.flatnonzero(trigger.applicable(changed.inputs))[:MOST])
        single = applied(scene, trigger, others, f"false triggers {name}")
        shares[name] = 100.0 * float(scene.goal.reached(model.predict(single.inputs), single).mean())
    return shares
