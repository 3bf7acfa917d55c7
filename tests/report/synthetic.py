"""Rows of an invented suite: the right shapes, a plausible world, no training."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.contracts import Predictions
from bench.experiment import predictions
from bench.experiment.metrics import measure
from bench.experiment.record import Record
from bench.report.rows.row import Row

TARGET = 1
RATIOS = (0.0, 0.1, 0.2, 0.3)  # that Fine-mixing has tried
# What a defense does: ACC it costs, ASR it leaves, how much the seeds differ in ASR.
WORLD: dict[str, tuple[float, float, float]] = {
    "fine-tuning": (0.3, 99.6, 0.3),
    "fine-pruning": (0.8, 98.2, 1.0),
    "fine-pruning-f": (1.5, 95.0, 2.5),
    "fine-mixing": (2.1, 36.0, 7.0),
    "fine-mixing-sel": (1.7, 41.0, 6.0),
    "mixing": (4.0, 55.0, 9.0),
    "e-pur": (0.1, 12.0, 3.0),
    "e-pur+fine-tuning": (0.4, 10.5, 2.5),
    "e-pur+fine-pruning": (0.9, 10.8, 2.5),
    "e-pur+fine-mixing": (2.3, 9.0, 1.5),
}
SECONDS = {"fine-tuning": 8.0, "e-pur": 0.2, "mixing": 15.0, "fine-mixing": 95.0, "fine-mixing-sel": 80.0}
Outcome = Callable[[str, str, str, int], tuple[float, float]]


def key(*parts: object) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def verdicts(
    gold: np.ndarray, right: float, wrong_label: int | None, rng: np.random.Generator, easy: np.ndarray
) -> Predictions:
    """Return verdicts of which about ``right`` percent hit; ``easy`` is shared by all models of a test set."""
    # The score mixes what the example is like with what this model is like, so that models agree, but not fully.
    score = np.argsort(np.argsort(easy + 0.5 * rng.normal(size=len(gold))))
    hit = score < round(right / 100 * len(gold))
    labels = np.where(hit, gold if wrong_label is None else wrong_label, 1 - gold if wrong_label is None else gold)
    return Predictions(labels, np.eye(2, dtype=np.float32)[labels], np.zeros(len(gold), dtype=bool))


def record(
    row: Row, acc: float, asr: float | None, *, examples: int = 400, notes: Mapping[str, Any] | None = None
) -> Record:
    """Return a record of schema 1 whose metrics follow from its predictions."""
    world = np.random.default_rng(int(key(row.task, "test set")[:8], 16))
    gold, easy = world.integers(0, 2, examples), world.normal(size=examples)
    rng = np.random.default_rng(int(row.cell_key[:8], 16))
    clean = verdicts(gold, acc, None, rng, easy)
    stored: dict[str, Any] = {"clean": predictions.encode(gold, clean), "triggered": None}
    if asr is not None:
        sources = np.flatnonzero(gold != TARGET)
        others = gold[sources]
        triggered = verdicts(others, asr, TARGET, rng, easy[sources])
        stored["triggered"] = predictions.encode(others, triggered, sources=sources)
    metrics = measure(predictions.judged(stored, target=TARGET, rejects=False))
    words = {"task": row.task, "model": row.model, "attack": row.attack, "defense": row.defense, "seed": row.seed}
    document = {
        "schema": 1,
        "key": row.cell_key,
        "kind": "cell",
        "role": row.role,
        "status": "done",
        "error": None,
        "cell": {**words, "target": TARGET, "clean_size": row.clean_size},
        "recipe": recipe(row),
        "victim_key": row.victim_key,
        "metrics": metrics,
        "predictions": stored,
        "notes": dict(notes or {}),
        "seconds": {"victim": 200.0, "defense": SECONDS.get(row.defense, 0.0), "evaluation": 2.0},
        "environment": {"device": "cpu", "precision": "fp32", "version": "0.1.0"},
    }
    return Record.of(document)


def recipe(row: Row) -> dict[str, Any]:
    """Return a recipe that says of a cell what its row says."""

    def plugin(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {"name": name, "version": 1, "parameters": dict(parameters), "libraries": {}}

    victim = {
        "kind": "victim",
        "schema": 1,
        "task": {**plugin(row.task, {"max_length": 128}), "fingerprint": key(row.task)},
        "model": {"name": row.model, "weights": key(row.model)},
        "attack": plugin(row.attack_base, row.attack_parameters),
        "seed": row.seed,
        "target": row.target,
        "budget": {"epochs": 3},
        "rooms": {"learning": 1},
        "libraries": {"torch": "2.13.0"},
        "reference": 1,
    }
    defense = plugin(row.defense_base, row.defense_parameters) if row.role in ("defended", "detected") else None
    return {"kind": "cell", "schema": 1, "role": row.role, "victim": victim, "defense": defense, "tolerance": 2.0}


def edited(row: Row, **fields: Any) -> Row:
    """Return the row with fields of its record replaced."""
    assert row.record is not None
    return replace(row, record=Record.of({**row.record.document(), **fields}))


def default_outcome(task: str, attack: str, defense: str, seed: int) -> tuple[float, float]:
    """Return ACC and ASR of a defense; the world above with some noise of the seed."""
    rng = np.random.default_rng(int(key(task, attack, defense, seed)[:8], 16))
    base = 87.0 if "questions" not in task else 81.0
    cost, asr, spread = WORLD[defense]
    leak = 1.6 if attack.startswith("badsent") and "e-pur" not in defense else 1.0
    return base - cost + rng.normal(0, 0.4), float(np.clip(asr * leak + rng.normal(0, spread), 0, 100))


def make_rows(
    *,
    tasks: Iterable[str] = ("reviews", "questions"),
    attacks: Iterable[str] = ("clean", "badword", "badsent"),
    defenses: Iterable[str] = ("none", *WORLD),
    seeds: Iterable[int] = (0, 1, 2),
    sizes: Iterable[int] = (64,),
    outcome: Outcome = default_outcome,
    victim: Callable[[str, str, int], tuple[float, float]] | None = None,
    suite: str = "invented",
    examples: int = 400,
) -> list[Row]:
    """Return every row of an invented suite, floors and ceilings included."""
    rows: list[Row] = []
    base = {"reviews": 87.4}
    for task in tasks:
        for seed in seeds:
            for attack in attacks:
                common: dict[str, Any] = dict(
                    suite=suite,
                    task=task,
                    model="embedded",
                    attack=attack,
                    seed=seed,
                    attack_base=attack.partition("(")[0],
                    victim_key=key("victim", task, attack, seed),
                    target=None if attack == "clean" else TARGET,
                    attack_parameters={} if attack == "clean" else {"rate": 0.1, "from": "pretrained"},
                )
                acc, asr = victim(task, attack, seed) if victim else (base.get(task, 81.2), 99.5)
                none = Row(
                    defense="none",
                    defense_base="none",
                    role="victim",
                    clean_size=0,
                    listed="none" in defenses,
                    cell_key=key("none", task, attack, seed),
                    **common,
                )
                rows.append(
                    replace(none, record=record(none, acc, None if attack == "clean" else asr, examples=examples))
                )
                if attack != "clean":
                    floor = Row(
                        defense="clean model",
                        defense_base="clean model",
                        role="floor",
                        clean_size=0,
                        listed=False,
                        cell_key=key("floor", task, attack, seed),
                        **common,
                    )
                    rows.append(
                        replace(floor, record=record(floor, base.get(task, 81.2) + 0.3, 9.0, examples=examples))
                    )
                for size in sizes:
                    for defense in defenses:
                        if defense != "none":
                            rows.append(_cell(common, defense, size, outcome, examples))
    return rows


def _cell(common: Mapping[str, Any], defense: str, size: int, outcome: Outcome, examples: int) -> Row:
    base = defense.partition("(")[0]
    given = re.search(r"reserve_ratio=([0-9.]+)", defense)
    ratio = float(given[1]) if given else None
    reads_clean = base != "e-pur"
    task, attack, seed = common["task"], common["attack"], common["seed"]
    row = Row(
        defense=defense,
        defense_base=base,
        role="defended",
        clean_size=size if reads_clean else 0,
        cell_key=key(defense, size, task, attack, seed),
        needs=("clean", "pretrained") if reads_clean else ("pretrained",),
        defense_parameters={"reserve_ratio": ratio} if "mixing" in base and "+" not in base else {},
        path=Path("records") / f"{key(defense, size, task, attack, seed)}.json",
        **common,
    )
    notes: dict[str, Any] = {}
    if "mixing" in base:
        notes = {"reserve_ratio": 0.3 if ratio is None else ratio}
        if ratio is None:
            tried = [{"value": value, "drop": 14 - 32 * value, "fitted_drop": 14 - 32 * value} for value in RATIOS]
            notes |= {"tried": tried, "selection_tolerance": 5.0, "selection_passed": True}
    acc, asr = outcome(task, attack, defense if "|" not in defense else defense, seed)
    return replace(row, record=record(row, acc, None if attack == "clean" else asr, examples=examples, notes=notes))


def crowd(
    *, defenses: int, attacks: int, tasks: int, seeds: int, examples: int = 200, suite: str = "crowd"
) -> list[Row]:
    """Return the rows of a large suite: every defense has a strength of its own."""

    def outcome(task: str, attack: str, defense: str, seed: int) -> tuple[float, float]:
        strength = int(key(defense)[:4], 16) / 0xFFFF
        noise = np.random.default_rng(int(key(task, attack, defense, seed)[:8], 16)).normal(size=2)
        return 81 - 5 * strength + 0.4 * noise[0], float(np.clip(100 * strength + 8 * noise[1], 0, 100))

    return make_rows(
        tasks=[f"task-{i}" for i in range(tasks)],
        attacks=["clean", *(f"attack-{i}" for i in range(attacks))],
        defenses=["none", "fine-tuning", *(f"defense-{i}" for i in range(1, defenses))],
        seeds=range(seeds),
        outcome=outcome,
        suite=suite,
        examples=examples,
    )


def changed(rows: Iterable[Row], wanted: Callable[[Row], bool], **fields: Any) -> list[Row]:
    """Return the rows with fields replaced where ``wanted``."""
    return [replace(row, **fields) if wanted(row) else row for row in rows]


def not_applicable(row: Row, reason: str) -> Row:
    """Return the row as the runner leaves it when a combination makes no sense."""
    return edited(row, status="n/a", error=reason, metrics=None, predictions=None, notes={}, seconds={})
