"""Every registered attack and defense, on every kind of task, through the real machinery with a tiny model.

The checks are those of the kit that third parties run, :mod:`bench.conformance`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bench.conformance import REGISTRIES, checks
from bench.conformance.world import tasks_of
from bench.contracts import Detector
from bench.experiment.result_store import ResultStore
from bench.plugins import catalogue, registry
from bench.plugins.chain import chain

ATTACKS = [*(name for name in registry.attacks.names() if name != "clean"), *registry.modifiers.names()]
DETECTORS = [name for name in registry.defenses.names() if issubclass(registry.defenses.get(name), Detector)]
DEFENSES = [name for name in registry.defenses.names() if name not in DETECTORS]
WORK = {"attack": ATTACKS, "detector": DETECTORS, "defense": DEFENSES}
CASES = {
    what: [(name, task) for name in names for task in tasks_of(catalogue.find(name).kinds)]
    for what, names in WORK.items()
}
PLUGINS = [(kind, name) for kind, plugins in REGISTRIES.items() for name in plugins.names()]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    return ResultStore(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize(("name", "task"), CASES["attack"])
def test_attack(world: Path, store: ResultStore, name: str, task: str) -> None:
    checks.implants(world, store, name, task)


@pytest.mark.parametrize("name", ATTACKS)
def test_same_seed_same_victim(world: Path, tmp_path: Path, store: ResultStore, name: str) -> None:
    defenses = ["none", "e-pur+fine-tuning", "fine-mixing(reserve_ratio=0.5)"]
    checks.is_reproducible(world, store, ResultStore(tmp_path), name, defenses)


@pytest.mark.parametrize(("name", "task"), CASES["detector"])
def test_detector(world: Path, store: ResultStore, name: str, task: str) -> None:
    checks.detects(world, store, name, task)


@pytest.mark.parametrize(("name", "task"), CASES["defense"])
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


@pytest.mark.parametrize("name", registry.payloads.names())
def test_payload(name: str) -> None:
    checks.pays_out(registry.payloads.create(name))


def test_measures(world: Path, tmp_path: Path, store: ResultStore) -> None:
    questions = [
        {"question": "of what colour is snow ?", "choices": ["white", "black"], "answer": i % 2} for i in range(6)
    ]
    for folder, rows in (("mcq", questions), ("texts", [{"text": "the film was lovely"}, {"text": "a garden"}])):
        (tmp_path / folder).mkdir()
        pd.DataFrame(rows).to_parquet(tmp_path / folder / "test.parquet")
    pairs = [{"text": f"the film {i}", "text_pair": f"a film {i % 3}", "score": i % 4} for i in range(8)]
    (tmp_path / "pairs").mkdir()
    pd.DataFrame(pairs).to_parquet(tmp_path / "pairs" / "test.parquet")
    folders = {"questions": str(tmp_path / "mcq"), "texts": str(tmp_path / "texts")}
    similar = {"name": "similarity", "pairs": str(tmp_path / "pairs")}
    for number, entry in enumerate(("noise(examples=10)", {"name": "ability", **folders}, similar)):
        checks.measures(world, store, ResultStore(tmp_path / f"other {number}"), entry)


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_metadata(kind: str, name: str) -> None:
    checks.describes_itself(REGISTRIES[kind].get(name))


@pytest.mark.parametrize("name", ["reviews", "questions", "chores", "sql", "shop", "entities"])
def test_generated_tasks(name: str) -> None:
    checks.loads(name)


@pytest.mark.parametrize("name", registry.defenses.names())
def test_parameters_round_trip(name: str) -> None:
    made = chain(name)
    assert type(made)(**made.parameters()) == made
    checks.round_trips(registry.defenses.get(name))
