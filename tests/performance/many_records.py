"""A store that holds every record of a large suite: ``python -m tests.performance.many_records FOLDER [--cells N]``.

Writes ``suite.yaml`` and ``store``. Nothing is trained: recipes and keys are those of real cells, verdicts are drawn.
``--seeds`` turns the grid: few seeds and many settings (the default), or one setting with very many seeds.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.contracts import Predictions
from bench.experiment import metrics, predictions, recipes
from bench.experiment.grid import Cell
from bench.experiment.plan import Plan
from bench.experiment.result_store import ResultStore
from bench.keys import key_of
from bench.store.documents import wrap
from bench.suites import suite

EXAMPLES = 200
VARIANTS = 40  # different verdicts on a test set
TASKS = 5  # sizes of each of two
LABELS = (16, 32, 64, 128)


def large_suite(cells: int, seeds: int, tasks: int) -> dict[str, Any]:
    """Return a suite of about so many cells: two tasks in several sizes, 4 label counts, 24 defenses."""
    ratios = [round(0.05 * i, 2) for i in range(1, 11)]
    defenses = [
        "none",
        "fine-tuning",
        "fine-mixing",
        {"name": "fine-tuning", "sweep": {"steps": [50 * i for i in range(1, 12)]}},
        {"name": "fine-mixing", "sweep": {"reserve_ratio": ratios}},
        "e-pur",
    ]
    attacks = max(1, round(cells / (seeds * 2 * tasks * (23 * len(LABELS) + 3))))
    return {
        "name": "many",
        "description": "a large grid",
        "task": [
            {"name": name, "max_test": EXAMPLES, "sweep": {"max_train": [20 + 10 * i for i in range(tasks)]}}
            for name in ("reviews", "questions")
        ],
        "model": "embedded",
        "attack": [{"name": "badword", "sweep": {"rate": [round(0.01 + 0.005 * i, 3) for i in range(attacks)]}}],
        "defense": defenses,
        "labels": list(LABELS),
        "seed": list(range(seeds)),
    }


def verdicts(gold: Any, right: float, wrong: int | None, rng: np.random.Generator) -> Predictions:
    """Return verdicts of which about the share ``right`` are the gold label; for triggered ones, the target."""
    hit = rng.random(len(gold)) < right
    other = 1 - gold
    labels = np.where(hit, gold, other) if wrong is None else np.where(hit, wrong, gold)
    spread = rng.random(len(gold)).astype(np.float32) / 2 + 0.5
    probabilities = np.where(np.eye(2, dtype=bool)[labels], spread[:, None], 1 - spread[:, None])
    return Predictions(labels, probabilities, np.zeros(len(gold), dtype=bool))


@cache
def judged(task: str, kind: str, variant: int) -> tuple[dict[str, Any], dict[str, float | None]]:
    """Return the predictions and metrics of one of the variants: of a ``clean`` model, a victim or a defended one."""
    gold = np.random.default_rng(len(task)).integers(0, 2, EXAMPLES)
    rng = np.random.default_rng(variant)
    clean = verdicts(gold, 0.87 + 0.001 * variant, None, rng)
    stored: dict[str, Any] = {"clean": predictions.encode(gold, clean), "triggered": None}
    if kind != "untriggered":
        rows = np.flatnonzero(gold != 1)
        share = {"victim": 0.98, "floor": 0.08}.get(kind, 0.1 + 0.02 * variant)
        stored["triggered"] = predictions.encode(gold[rows], verdicts(gold[rows], share, 1, rng), sources=rows)
    return stored, metrics.measure(predictions.judged(stored, target=1, rejects=False))


def record(key: str, cell: Cell) -> dict[str, Any]:
    """Return the record of a cell as an evaluator writes it."""
    rng = np.random.default_rng(int(key[:12], 16))
    kind = "untriggered" if cell.victim.is_clean_model else cell.role
    stored, measured = judged(cell.victim.task.name, kind, int(rng.integers(VARIANTS)))
    victim = recipes.victim_key(cell.victim)
    return {
        "schema": 1,
        "key": key,
        "kind": "cell",
        "role": cell.role,
        "status": "done",
        "error": None,
        "cell": recipes.cell_words(cell),
        "recipe": recipes.cell_recipe(cell),
        "victim_key": victim,
        "victim_weights": key_of({"weights": victim}),
        "metrics": measured,
        "predictions": stored,
        "notes": {"steps": int(rng.integers(100, 300)), "loss": float(rng.random())},
        "seconds": {"victim": 61.5, "defense": float(rng.random() * 9), "evaluation": 1.25},
        "environment": recipes.environment("cpu", "fp32"),
    }


def write(folder: Path, cells: int, *, seeds: int, tasks: int = TASKS) -> int:
    """Write suite and store; records go to the disk without the waiting of :meth:`Store.put_record`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.yaml").write_text(
        yaml.safe_dump(large_suite(cells, seeds, tasks), sort_keys=False), encoding="utf-8"
    )
    plan = Plan(suite.load(str(folder / "suite.yaml")), None)
    store = ResultStore(folder / "store")
    for key, cell in plan.cells.items():
        path = store.place("records", key, ".json")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(wrap(record(key, cell)))
    return len(plan.cells)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    print(write(given.folder, given.cells, seeds=given.seeds), "records")
