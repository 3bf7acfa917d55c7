"""Every registered attack, modifier and payload, on every kind of task, through the real machinery with a tiny model.

The checks are those of the kit that third parties run, :mod:`bench.conformance`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.conformance import checks
from bench.conformance.world import tasks_of
from bench.experiment.result_store import ResultStore
from bench.plugins import catalogue, registry

ATTACKS = [*(name for name in registry.attacks.names() if name != "clean"), *registry.modifiers.names()]


@pytest.mark.parametrize(
    ("name", "task"), [(name, task) for name in ATTACKS for task in tasks_of(catalogue.find(name).kinds)]
)
def test_attack(world: Path, store: ResultStore, name: str, task: str) -> None:
    checks.implants(world, store, name, task)


@pytest.mark.parametrize("name", ATTACKS)
def test_same_seed_same_victim(world: Path, tmp_path: Path, store: ResultStore, name: str) -> None:
    defenses = ["none", "e-pur+fine-tuning(steps=20)", "fine-mixing(reserve_ratio=0.5, steps=20)"]
    checks.is_reproducible(world, store, ResultStore(tmp_path), name, defenses)


@pytest.mark.parametrize("name", registry.payloads.names())
def test_payload(name: str) -> None:
    checks.pays_out(registry.payloads.create(name))
