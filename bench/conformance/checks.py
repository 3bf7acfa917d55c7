"""What every plugin has to do, as functions that raise ``AssertionError`` with the reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from bench import runner
from bench.conformance.world import MODEL
from bench.contracts import Plugin
from bench.contracts.access import Access
from bench.experiment import judging, recipes, stored_victims, work
from bench.experiment.grid import create_task
from bench.experiment.plan import Plan
from bench.experiment.record import Record
from bench.experiment.result_store import ResultStore
from bench.experiment.skips import skip_reason
from bench.plugins import catalogue
from bench.plugins.chain import needs_of
from bench.suites import suite


def run(world: Path, store: ResultStore, *, kind: str, attack: str, defense: list[str], **fields: Any) -> Plan:
    """Run a tiny suite in this process; a failed job is an ``AssertionError`` with its traceback."""
    data = {
        "name": "conformance",
        "description": "tiny",
        "task": {"name": "local", "folder": str((world / kind).resolve()), "max_length": 32},
        "model": str(world / MODEL),
        "attack": attack,
        "defense": defense,
        "labels": 32,
        "budget": {"epochs": 1, "learning_rate": 1e-3, "precision": "fp32"},
        **fields,
    }
    plan = Plan(suite.check(data, "conformance"))
    runner.run(plan.jobs, store=store, execute=work.execute, engine="serial", device="cpu")
    for job in plan.jobs:
        if failure := store.failure(job.key):
            raise AssertionError(f"{job.label} failed:\n{failure.get('traceback') or failure['error']}")
    return plan


def describes_itself(plugin: type[Plugin]) -> None:
    """Its name, version, docstring, citation and fields tell a user what it is."""
    description = catalogue.description(plugin.name)
    first = description["about"].partition("\n")[0]
    assert first.endswith((".", ")")), f"the docstring's first line is no sentence: {first!r}"
    assert isinstance(plugin.version, int) and plugin.version >= 1, f"version {plugin.version!r} is not 1 or more"
    for field, parameter in description["parameters"].items():
        assert parameter["about"], f"the field {field!r} has no description"
    if description["kind"] != "task" and plugin.name != "clean":
        assert description["citation"], "citation is empty"
    assert catalogue.in_words(description)


def round_trips(plugin: type[Plugin]) -> None:
    """Its fields survive being written down and read again, and the default is valid."""
    if any(field.is_required() for field in plugin.model_fields.values()):
        return
    made = plugin()
    assert type(made)(**made.parameters()) == made, "its parameters() do not give the same plugin again"
    assert made.spec == made.name, f"with its defaults its spec is {made.spec!r}, not its name"


def implants(world: Path, store: ResultStore, name: str, kind: str) -> None:
    """An attack's triggered set is right: gold labels are kept, and every text carries the trigger, even truncated."""
    plan = run(world, store, kind=kind, attack=name, defense=["none"])
    cells = [cell for cell in plan.cells.values() if not cell.victim.is_clean_model]
    records = {cell.role: _record(store, key) for key, cell in plan.cells.items() if not cell.victim.is_clean_model}
    if records["victim"].status == "n/a":
        assert records["victim"].error, "skip returned an empty reason"
        return
    spec = cells[0].victim
    task = recipes.task_of(spec.task)
    folder = store.artifact(recipes.victim_key(spec))
    assert folder is not None
    stored = stored_victims.read(folder)
    assert stored.triggered is not None, "there is no triggered test set"
    assert stored.sources is not None
    others = task.test.take(stored.sources)
    assert (stored.triggered.labels == others.labels).all(), "a gold label of the triggered test set changed"
    same = [a for a, b in zip(stored.triggered.inputs.carrier, others.inputs.carrier, strict=True) if a == b]
    assert not same, f"the trigger leaves a text as it was: {same[:1]}"
    if task.facts.pair:
        assert stored.triggered.inputs.texts == others.inputs.texts, "the first segment of a pair changed"
    for role in ("victim", "floor"):
        assert (records[role].metrics or {})["asr"] is not None, f"the {role} has no ASR"
    tokenizer = recipes.model_of(spec.model).tokenizer()
    words = {word: tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in stored.about["trigger_words"]}
    columns = [column for column in (stored.triggered.inputs.texts, stored.triggered.inputs.pairs) if column]
    ids = tokenizer(*map(list, columns), truncation=True, max_length=task.facts.max_length)["input_ids"]
    for before, after, row in zip(others.inputs.carrier, stored.triggered.inputs.carrier, ids, strict=True):
        inserted = [word for word in words if after.split().count(word) > before.split().count(word)]
        assert bool(inserted) == bool(words), f"no word of the trigger was inserted: {after!r}"
        assert all(words[word] in row for word in inserted), f"the trigger does not survive truncation: {after!r}"


def is_reproducible(world: Path, store: ResultStore, other: ResultStore, name: str, defenses: list[str]) -> None:
    """The same seed gives the same records, bit for bit; another seed gives other keys."""
    plan = run(world, store, kind="single", attack=name, defense=defenses)
    again = run(world, other, kind="single", attack=name, defense=defenses)
    assert list(plan.cells) == list(again.cells), "the keys differ from run to run"
    for key in plan.cells:
        first, second = _record(store, key).document(), _record(other, key).document()
        different = [part for part in first if part != "seconds" and first[part] != second.get(part)]
        assert not different, f"{different} differ from run to run: is there randomness without a seed?"
    third = run(world, store, kind="single", attack=name, defense=["none"], seed=7)
    assert not set(third.cells) & set(plan.cells), "another seed has the same key"


def defends(world: Path, store: ResultStore, name: str, kind: str) -> None:
    """A defense gives a record with sane numbers, or says why it makes no sense."""
    plan = run(world, store, kind=kind, attack="badword", defense=[name])
    (key,) = [key for key, cell in plan.cells.items() if cell.role == "defended"]
    record = _record(store, key)
    if record.status == "n/a":
        assert record.error, "skip returned an empty reason"
        return
    metrics = record.metrics
    assert metrics is not None, "it has no metrics"
    for metric in ("acc", "asr"):
        assert metrics[metric] is not None, f"{metric} is not defined"
    assert (metrics["frr"] is None) == (metrics["far"] is None), "only one of FRR and FAR is given"


def detects(world: Path, store: ResultStore, name: str, kind: str) -> None:
    """A detector gives the victim and its clean model a finite score each, and no metrics."""
    plan = run(world, store, kind=kind, attack="badword", defense=[name])
    judged = {c.victim.is_clean_model: _record(store, k) for k, c in plan.cells.items() if c.role == "detected"}
    assert set(judged) == {True, False}, "a detector judges the victim and its clean model"
    for record in judged.values():
        assert record.metrics is None and record.predictions is None, "a detector has no metrics"
        assert record.status == "n/a" or "suspicion" in record.notes, "it gives no score"


def keeps_to_its_needs(world: Path, store: ResultStore, name: str) -> str | None:
    """A defense reads only what it declares and leaves the victim as it was; returns why that could not be seen."""
    plan = run(world, store, kind="single", attack="badword", defense=[name])
    roles = ("defended", "detected")
    (cell,) = [c for c in plan.cells.values() if c.role in roles and not c.victim.is_clean_model]
    if reason := skip_reason(cell):
        return reason
    assert cell.defense is not None
    read: set[str] = set()
    original = Access._hand_over

    def spy(self: Access, what: str, need: str) -> Any:
        read.add(need)
        return original(self, what, need)

    task, stored = recipes.task_of(cell.victim.task), stored_victims.load(cell.victim, store)
    model = stored.classifier(recipes.model_of(cell.victim.model), device="cpu", precision="fp32")
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    with patch.object(Access, "_hand_over", spy):
        judging.defend(cell, model, stored, task, store)
    undeclared = read - set(needs_of(cell.defense))
    assert not undeclared, f"it reads {sorted(undeclared)} without declaring it"
    changed = [name for name, tensor in model.model.state_dict().items() if not (tensor == before[name]).all()]
    assert not changed, f"it changes the victim that others share: {changed[:3]}"
    return None


def loads(name: str) -> None:
    """A task has three splits without common texts, labels in range, and the same fingerprint every time."""
    task, again = create_task(name).load(), create_task(name).load()
    assert task.fingerprint == again.fingerprint, "the fingerprint differs from load to load"
    assert len(task.facts.labels) >= 2, "it has fewer than two labels"
    seen: dict[tuple[str, ...], str] = {}
    for split in ("train", "validation", "test"):
        examples = getattr(task, split)
        assert len(examples), f"the {split} split is empty"
        assert (examples.inputs.pairs is not None) == task.facts.pair, f"{split} does not fit facts.pair"
        labels = set(np.unique(examples.labels).tolist())
        assert labels <= set(range(len(task.facts.labels))), f"{split} has labels {sorted(labels)} out of range"
        assert len(labels) >= 2, f"{split} has examples of one label only"
        for text in zip(examples.inputs.texts, examples.inputs.pairs or examples.inputs.texts, strict=True):
            assert seen.setdefault(text, split) == split, f"a text of {split} is in {seen[text]} too: {text[0][:60]!r}"
    small = dataclasses.asdict(create_task({"name": name, "max_test": 4}).load().facts)
    assert small == dataclasses.asdict(task.facts), "max_test changes the facts"


def _record(store: ResultStore, key: str) -> Record:
    record = store.result(key)
    assert record is not None, f"there is no record {key}"
    return record
