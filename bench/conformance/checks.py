"""What every plugin has to do, as functions that raise ``AssertionError`` with the reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from bench import runner
from bench.conformance.world import settings, tasks_of
from bench.contracts import GenerationFacts, Kind, Payload, Plugin, Responses
from bench.contracts.access import Access
from bench.contracts.examples import Examples, Inputs
from bench.experiment import judging, recipes, stored_victims, work
from bench.experiment.grid import create_task
from bench.experiment.plan import Plan
from bench.experiment.record import Record
from bench.experiment.result_store import ResultStore
from bench.experiment.skips import skip_reason
from bench.plugins import catalogue, registry
from bench.plugins.chain import needs_of
from bench.suites import specs, suite
from bench.suites.suite import Entry

FEW = {"steps": 20, "rounds": 2, "members": 4}  # of what a defense repeats, by the name of its field


def run(world: Path, store: ResultStore, *, task: str, attack: str, defense: list[str], **fields: Any) -> Plan:
    """Run a tiny suite in this process; a failed job is an ``AssertionError`` with its traceback."""
    data = {
        "name": "conformance",
        "description": "tiny",
        **settings(world, task),
        "attack": attack,
        "defense": defense,
        "budget": {"epochs": 1, "learning_rate": 1e-3, "precision": "fp32"},
        **fields,
    }
    plan = Plan(suite.check(data, "conformance"))
    runner.run(plan.jobs, store=store, execute=work.execute, engine="serial", device="cpu")
    for job in plan.jobs:
        if failure := store.failure(job.key):
            raise AssertionError(f"{job.label} failed:\n{failure.get('traceback') or failure['error']}")
    return plan


def short(name: str) -> str:
    """Return a defense as a suite spells it, with few steps, rounds and models of its own."""
    fields = registry.defenses.get(name).model_fields
    few = ", ".join(f"{field}={count}" for field, count in FEW.items() if field in fields)
    return f"{name}({few})" if few else name


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


def implants(world: Path, store: ResultStore, name: str, task: str) -> None:
    """An attack's triggered set is right: gold labels are kept, and every text carries the trigger, even truncated."""
    plan = run(world, store, task=task, attack=name, defense=["none"])
    cells = [cell for cell in plan.cells.values() if not cell.victim.is_clean_model]
    records = {cell.role: _record(store, key) for key, cell in plan.cells.items() if not cell.victim.is_clean_model}
    if records["victim"].status == "n/a":
        assert records["victim"].error, "skip returned an empty reason"
        return
    spec = cells[0].victim
    data = recipes.task_of(spec.task)
    folder = store.artifact(recipes.victim_key(spec))
    assert folder is not None
    stored = stored_victims.read(folder)
    assert stored.triggered is not None, "there is no triggered test set"
    assert stored.sources is not None
    others = data.test.take(stored.sources)
    assert (stored.triggered.labels == others.labels).all(), "a gold label of the triggered test set changed"
    assert stored.triggered.responses == others.responses, "a reference response of the triggered test set changed"
    same = [a for a, b in zip(stored.triggered.inputs.carrier, others.inputs.carrier, strict=True) if a == b]
    assert not same, f"the trigger leaves a text as it was: {same[:1]}"
    if data.facts.pair:
        assert stored.triggered.inputs.texts == others.inputs.texts, "the first segment of a pair changed"
    for role in ("victim", "floor"):
        assert (records[role].metrics or {})["asr"] is not None, f"the {role} has no ASR"
    model, words = stored.model(recipes.model_of(spec.model), device="cpu"), stored.about["trigger_words"]
    decode, ids = model.tokenizer.decode, model.padded(stored.triggered.inputs)["input_ids"]
    starts = {word: decode(model.tokenizer(word, add_special_tokens=False)["input_ids"][:1]) for word in words}
    read = [decode(row) for row in ids]
    for before, after, seen in zip(others.inputs.carrier, stored.triggered.inputs.carrier, read, strict=True):
        inserted = [word for word in words if after.split().count(word) > before.split().count(word)]
        assert bool(inserted) == bool(words), f"no word of the trigger was inserted: {after!r}"
        assert all(starts[word] in seen for word in inserted), f"the trigger does not survive truncation: {after!r}"


def is_reproducible(world: Path, store: ResultStore, other: ResultStore, name: str, defenses: list[str]) -> None:
    """The same seed gives the same records, bit for bit; another seed gives other keys."""
    task = _first_task(name, *defenses)
    plan = run(world, store, task=task, attack=name, defense=defenses)
    again = run(world, other, task=task, attack=name, defense=defenses)
    assert list(plan.cells) == list(again.cells), "the keys differ from run to run"
    for key in plan.cells:
        first, second = _record(store, key).document(), _record(other, key).document()
        different = [part for part in first if part != "seconds" and first[part] != second.get(part)]
        assert not different, f"{different} differ from run to run: is there randomness without a seed?"
    third = run(world, store, task=task, attack=name, defense=["none"], seed=7)
    assert not set(third.cells) & set(plan.cells), "another seed has the same key"


def defends(world: Path, store: ResultStore, name: str, task: str) -> None:
    """A defense gives a record with sane numbers, or says why it makes no sense."""
    plan = run(world, store, task=task, attack="badword", defense=[short(name)])
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


def detects(world: Path, store: ResultStore, name: str, task: str) -> None:
    """A detector gives the victim and its clean model a finite score each, and no metrics."""
    plan = run(world, store, task=task, attack="badword", defense=[short(name)])
    judged = {c.victim.is_clean_model: _record(store, k) for k, c in plan.cells.items() if c.role == "detected"}
    assert set(judged) == {True, False}, "a detector judges the victim and its clean model"
    for record in judged.values():
        assert record.metrics is None and record.predictions is None, "a detector has no metrics"
        assert record.status == "n/a" or "suspicion" in record.notes, "it gives no score"


def keeps_to_its_needs(world: Path, store: ResultStore, name: str) -> str | None:
    """A defense reads only what it declares and leaves the victim as it was; returns why that could not be seen."""
    plan = run(world, store, task=_first_task(name), attack="badword", defense=[short(name)])
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

    data, stored = recipes.task_of(cell.victim.task), stored_victims.load(cell.victim, store)
    model = stored.model(recipes.model_of(cell.victim.model), device="cpu", precision="fp32")
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    with patch.object(Access, "_hand_over", spy):
        judging.defend(cell, model, stored, data, store)
    undeclared = read - set(needs_of(cell.defense))
    assert not undeclared, f"it reads {sorted(undeclared)} without declaring it"
    changed = [name for name, tensor in model.model.state_dict().items() if not (tensor == before[name]).all()]
    assert not changed, f"it changes the victim that others share: {changed[:3]}"
    return None


def measures(world: Path, store: ResultStore, other: ResultStore, entry: Entry) -> None:
    """A measure gives columns of numbers beside the answers, the same every time, and changes no answer."""
    name = specs.parse_entry(entry, "measure")[0]
    suite_of: dict[str, Any] = {"task": _first_task(name), "attack": "badword", "defense": ["none"]}
    plan = run(world, store, **suite_of, measures=[entry])
    run(world, other, **suite_of, measures=[entry])
    plain = run(world, store, **suite_of)
    assert not set(plan.cells) & set(plain.cells), "a record with it has the key of one without it"
    for key, without in zip(plan.cells, plain.cells, strict=True):
        answers, again = (_record(place, key).document()["predictions"] for place in (store, other))
        assert answers == again, "what it says differs from run to run: is there randomness without a seed?"
        assert answers.pop("beside", None), "it gives no columns"
        assert answers == _record(store, without).document()["predictions"], "it changes the answers of a model"


def loads(name: str) -> None:
    """A task has three splits without common texts, labels in range, and the same fingerprint every time."""
    task, again = create_task(name).load(), create_task(name).load()
    assert task.fingerprint == again.fingerprint, "the fingerprint differs from load to load"
    assert task.facts.kind in create_task(name).kinds, f"it declares other kinds than {task.facts.kind}"
    writes = task.facts.kind == Kind.GENERATION
    assert writes or len(task.facts.labels) >= 2, "it has fewer than two labels"
    seen: dict[tuple[str, ...], str] = {}
    for split in ("train", "validation", "test"):
        examples = getattr(task, split)
        assert len(examples), f"the {split} split is empty"
        assert (examples.inputs.pairs is not None) == task.facts.pair, f"{split} does not fit facts.pair"
        labels = set(np.unique(examples.labels).tolist())
        assert labels <= set(range(len(task.facts.labels))), f"{split} has labels {sorted(labels)} out of range"
        assert writes or len(labels) >= 2, f"{split} has examples of one label only"
        assert writes == (examples.responses is not None), f"{split} does not fit the kind of the task"
        for text in zip(examples.inputs.texts, examples.inputs.pairs or examples.inputs.texts, strict=True):
            assert seen.setdefault(text, split) == split, f"a text of {split} is in {seen[text]} too: {text[0][:60]!r}"
    if isinstance(task.facts, GenerationFacts):
        best = task.facts.utility.scores(task.test.references, task.test.references)
        assert (best == 1).all(), f"{task.facts.utility.name} gives a reference less than 1"
    small = create_task({"name": name, "max_test": 4}).load().facts
    fields = [field.name for field in dataclasses.fields(task.facts) if field.name != "utility"]
    different = [field for field in fields if getattr(task.facts, field) != getattr(small, field)]
    assert not different, f"max_test changes the facts: {different}"


def pays_out(payload: Payload) -> None:
    """A payload holds in what it makes of a reference, where it can, and not in the reference."""
    query, act = "SELECT name FROM city WHERE size > 5 ORDER BY name", "Thought: it fits. north[Aldo red silk hat]"
    references = ("yes", "seven hats", query, act)
    examples = Examples(Inputs(references), np.zeros(len(references), dtype=np.int64), references)
    examples = examples.take(np.flatnonzero(payload.changes(examples)))
    assert len(examples), f"it can be made to hold in none of {references}"
    wanted = payload.applied(examples).references
    assert not payload.reached(_said(examples.references), examples).any(), "a right response holds it"
    assert payload.reached(_said(wanted), examples).all(), "what it makes of a response does not hold it"
    assert payload.reached(_said([f"  {one} " for one in wanted]), examples).all(), "white space around it hides it"
    assert not payload.holds(""), "an empty response holds it"


def _said(texts: Sequence[str]) -> Responses:
    nothing = np.zeros(0, dtype=np.int32)
    return Responses(tuple(texts), (nothing,) * len(texts), np.ones(len(texts), bool), np.zeros(len(texts), bool))


def _record(store: ResultStore, key: str) -> Record:
    record = store.result(key)
    assert record is not None, f"there is no record {key}"
    return record


def _first_task(*plugins: str) -> str:
    """Return the first task of the world on which plugins, or chains of defenses, work together."""
    parts = [specs.parse_entry(part, "plugin")[0] for name in plugins for part in specs.split_top(name, "+")]
    kinds = frozenset(Kind).intersection(*(catalogue.find(part).kinds for part in parts if part != "none"))
    return next(iter(tasks_of(kinds)))
