"""What jobs cost, counted in trained examples: a first guess of their order, and of how long a suite takes.

What defenses cost was measured: ``python -m tests.performance.cell_costs results`` writes ``costs.json`` from records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from statistics import median

from bench.contracts import Defense
from bench.contracts.kind import Kind
from bench.experiment.grid import VictimSpec
from bench.experiment.victims import training_task
from bench.plugins.chain import Chain

PATH = Path(__file__).with_name("costs.json")
JUDGING = "judging an example"


@cache
def measured() -> Mapping[str, Mapping[str, float]]:
    """Return trained examples by kind of model and by defense; ``JUDGING`` has those that judging one example takes."""
    costs: Mapping[str, Mapping[str, float]] = json.loads(PATH.read_text(encoding="utf-8"))
    return costs


def names(defense: Defense) -> list[str]:
    """Return how the table calls each part of a defense: one that chooses nothing is apart from one that does."""
    parts = defense.parts if isinstance(defense, Chain) else (defense,)
    return [f"{part.name}, fixed" if _fixed(part) else part.name for part in parts]


def _fixed(part: Defense) -> bool:
    candidates = getattr(part, "candidates", None)
    return candidates is not None and getattr(part, candidates[0]) is not None


def of_victim(spec: VictimSpec) -> float:
    """Return what training a victim costs."""
    return spec.budget.epochs * len(training_task(spec).train)


def of_judging(kind: Kind, tests: int) -> float:
    """Return what it costs to judge a model on a test set of some examples, and on the triggered ones."""
    return 2 * tests * measured()[kind][JUDGING]


def of_defense(defense: Defense | None, kind: Kind) -> float:
    """Return what a defense costs; a part that was never measured counts as a middling one."""
    costs = measured()[kind]
    others = median(cost for name, cost in costs.items() if name != JUDGING)
    return 0.0 if defense is None else sum(costs.get(name, others) for name in names(defense))


def unknown(defense: Defense, kind: Kind) -> list[str]:
    """Return the parts of a defense whose cost was never measured."""
    return [name for name in names(defense) if name not in measured()[kind]]
