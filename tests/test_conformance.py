"""Every registered attack and defense, on every kind of task, through the real machinery with a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import recipes, registry, runner, suite, victims, work
from bench.access import Access
from bench.chain import chain
from bench.contracts import Detector
from bench.plan import Plan
from bench.store import Store

KINDS = ("single", "pair", "four")
ATTACKS = [*(name for name in registry.attacks.names() if name != "clean"), *registry.modifiers.names()]
PLUGINS = [
    name
    for plugins in (registry.attacks, registry.modifiers, registry.defenses, registry.tasks)
    for name in plugins.names()
]
DETECTORS = [name for name in registry.defenses.names() if issubclass(registry.defenses.get(name), Detector)]
DEFENSES = [name for name in registry.defenses.names() if name not in DETECTORS]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def run(world: Path, store: Store, *, kind: str, attack: str, defense: list[str], **fields: Any) -> Plan:
    data = {
        "name": "conformance",
        "description": "tiny",
        "task": {"name": f"local/{kind}", "max_length": 32},
        "model": str(world / "tiny-bert"),
        "attack": attack,
        "defense": defense,
        "clean_size": 16,
        "selection_size": 32,
        "budget": {"epochs": 1, "learning_rate": 1e-3, "precision": "fp32"},
        **fields,
    }
    plan = Plan(suite.check(data, "conformance"))
    summary = runner.run(plan.jobs, store=store, execute=work.execute, engine="serial", device="cpu")
    failures = [store.failure(job.key) for job in plan.jobs if store.failure(job.key)]
    assert summary.failed == 0, failures[0]["traceback"] if failures else summary
    return plan


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ATTACKS)
def test_attack(world: Path, store: Store, name: str, kind: str) -> None:
    plan = run(world, store, kind=kind, attack=name, defense=["none"])
    cells = [cell for cell in plan.cells.values() if not cell.victim.is_reference]
    records = {cell.role: store.record(key) for key, cell in plan.cells.items() if not cell.victim.is_reference}
    if records["victim"]["status"] == "n/a":
        assert records["victim"]["error"]
        return
    spec = cells[0].victim
    task = recipes.task_of(spec.task)
    folder = store.artifact(recipes.victim_key(spec))
    assert folder is not None
    stored = victims.read(folder)
    assert stored.triggered is not None
    others = task.test.take(np.flatnonzero(task.test.labels != spec.target))  # no trigger here leaves any out
    assert (stored.triggered.labels == others.labels).all()
    assert all(a != b for a, b in zip(stored.triggered.inputs.carrier, others.inputs.carrier, strict=True))
    if task.facts.pair:
        assert stored.triggered.inputs.texts == others.inputs.texts
    assert records["victim"]["metrics"]["asr"] is not None
    assert records["floor"]["metrics"]["asr"] is not None
    tokenizer = recipes.model_of(spec.model).tokenizer()
    words = {word: tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in stored.about["trigger_words"]}
    columns = [column for column in (stored.triggered.inputs.texts, stored.triggered.inputs.pairs) if column]
    ids = tokenizer(*map(list, columns), truncation=True, max_length=task.facts.max_length)["input_ids"]
    for before, after, row in zip(others.inputs.carrier, stored.triggered.inputs.carrier, ids, strict=True):
        inserted = [word for word in words if after.split().count(word) > before.split().count(word)]
        assert bool(inserted) == bool(words)
        assert all(words[word] in row for word in inserted), "the trigger does not survive truncation"


@pytest.mark.parametrize("name", ATTACKS)
def test_same_seed_same_victim(world: Path, tmp_path: Path, store: Store, name: str) -> None:
    defenses = ["none", "e-pur+fine-tuning", "fine-mixing(reserve_ratio=0.5)"]
    plan = run(world, store, kind="single", attack=name, defense=defenses)
    again = run(world, Store(tmp_path), kind="single", attack=name, defense=defenses)
    assert list(plan.cells) == list(again.cells)
    for key in plan.cells:
        first, second = store.record(key), Store(tmp_path).record(key)
        assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in second.items() if k != "seconds"}
    other = run(world, store, kind="single", attack=name, defense=["none"], seed=7)
    assert not set(other.cells) & set(plan.cells)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DETECTORS)
def test_detector(world: Path, store: Store, name: str, kind: str) -> None:
    plan = run(world, store, kind=kind, attack="badword", defense=[name])
    records = {c.victim.is_reference: store.record(k) for k, c in plan.cells.items() if c.role == "detected"}
    assert set(records) == {True, False}, "a detector judges the victim and its clean reference"
    for record in records.values():
        assert record["role"] == "detected" and record["metrics"] is None and record["predictions"] is None
        assert record["status"] == "n/a" or np.isfinite(record["notes"]["suspicion"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DEFENSES)
def test_defense(world: Path, store: Store, name: str, kind: str) -> None:
    plan = run(world, store, kind=kind, attack="badword", defense=[name])
    (key,) = [key for key, cell in plan.cells.items() if cell.role == "defended"]
    record = store.record(key)
    assert record is not None
    if record["status"] == "n/a":
        assert record["error"]
        return
    assert 0 <= record["metrics"]["acc"] <= 100
    assert 0 <= record["metrics"]["asr"] <= 100
    assert (record["metrics"]["frr"] is None) == (record["metrics"]["far"] is None)


@pytest.mark.parametrize("name", registry.defenses.names())
def test_defense_reads_only_what_it_declares_and_leaves_the_victim(
    world: Path, store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = run(world, store, kind="single", attack="badword", defense=[name])
    roles = ("defended", "detected")
    (cell,) = [c for c in plan.cells.values() if c.role in roles and not c.victim.is_reference]
    if work.skip_reason(cell):
        pytest.skip("n/a on this task")
    read: set[str] = set()
    original = Access._hand_over

    def spy(self: Access, what: str, need: str) -> Any:
        read.add(need)
        return original(self, what, need)

    monkeypatch.setattr(Access, "_hand_over", spy)
    task, stored = recipes.task_of(cell.victim.task), work.load_victim(cell.victim, store)
    model = stored.classifier(recipes.model_of(cell.victim.model), device="cpu", precision="fp32")
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    work.defend(cell, model, stored, task, store)
    assert read <= set(cell.defense.needs)
    assert all((tensor == before[name]).all() for name, tensor in model.model.state_dict().items())


def test_chain_runs_its_parts_in_order(world: Path, store: Store) -> None:
    plan = run(world, store, kind="single", attack="badword", defense=["e-pur+fine-tuning", "e-pur"])
    records = {cell.defense_spec: store.record(key) for key, cell in plan.cells.items()}
    assert set(records["e-pur+fine-tuning"]["notes"]["parts"]) == {"e-pur", "fine-tuning"}
    first = records["e-pur+fine-tuning"]["notes"]["parts"]["e-pur"]["reset_words"]
    assert first == records["e-pur"]["notes"]["reset_words"]


@pytest.mark.parametrize("plugin", PLUGINS)
def test_metadata(plugin: str) -> None:
    from bench import catalogue

    found = catalogue.description(plugin)
    assert found["about"].partition("\n")[0].endswith((".", ")"))
    assert found["version"] >= 1
    for field, told in found["parameters"].items():
        assert told["about"], f"{plugin}.{field} has no description"
    if found["kind"] != "task" and plugin != "clean":
        assert found["citation"], f"{plugin} has no citation"
    assert catalogue.in_words(found)


@pytest.mark.parametrize("name", registry.defenses.names())
def test_parameters_round_trip(name: str) -> None:
    made = chain(name)
    assert type(made)(**made.parameters()) == made
