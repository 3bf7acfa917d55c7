"""Every registered defense, on every kind of task, through the real machinery: see ``test_attacks.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.conformance import checks
from bench.conformance.world import tasks_of
from bench.contracts import Detector
from bench.experiment.result_store import ResultStore
from bench.plugins import catalogue, registry
from bench.plugins.chain import chain

DETECTORS = [name for name in registry.defenses.names() if issubclass(registry.defenses.get(name), Detector)]
DEFENSES = [name for name in registry.defenses.names() if name not in DETECTORS]


def cases(names: list[str]) -> list[tuple[str, str]]:
    return [(name, task) for name in names for task in tasks_of(catalogue.find(name).kinds)]


@pytest.mark.parametrize(("name", "task"), cases(DETECTORS))
def test_detector(world: Path, store: ResultStore, name: str, task: str) -> None:
    checks.detects(world, store, name, task)


@pytest.mark.parametrize(("name", "task"), cases(DEFENSES))
def test_defense(world: Path, store: ResultStore, name: str, task: str) -> None:
    checks.defends(world, store, name, task)


@pytest.mark.parametrize("name", registry.defenses.names())
def test_defense_reads_only_what_it_declares_and_leaves_the_victim(world: Path, store: ResultStore, name: str) -> None:
    if reason := checks.keeps_to_its_needs(world, store, name):
        pytest.skip(reason)


def test_chain_runs_its_parts_in_order(world: Path, store: ResultStore) -> None:
    plan = checks.run(world, store, task="single", attack="badword", defense=["e-pur+fine-tuning", "e-pur"])
    records = {cell.defense_spec: store.record(key) for key, cell in plan.cells.items()}
    assert set(records["e-pur+fine-tuning"]["notes"]["parts"]) == {"e-pur", "fine-tuning"}
    first = records["e-pur+fine-tuning"]["notes"]["parts"]["e-pur"]["reset_words"]
    assert first == records["e-pur"]["notes"]["reset_words"]


@pytest.mark.parametrize("name", registry.defenses.names())
def test_parameters_round_trip(name: str) -> None:
    made = chain(name)
    assert type(made)(**made.parameters()) == made
    checks.round_trips(registry.defenses.get(name))
