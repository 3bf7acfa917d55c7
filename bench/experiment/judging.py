"""How a cell is judged: samples, access, the defense and the evaluation of what it returns."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench import seeds
from bench.contracts import Defended, Detector, Kind, Measure, Other, Payload, Task, targets_of
from bench.contracts.access import Access
from bench.contracts.examples import Examples, Inputs, join, stratified_order
from bench.experiment import recipes, stored_victims, written
from bench.experiment.evaluation import Evaluation, TestSets, evaluate
from bench.experiment.grid import Cell, VictimSpec
from bench.experiment.kinds import model_kind
from bench.experiment.skips import no_training_set, no_trigger, skip_reason
from bench.experiment.stored_victims import StoredVictim
from bench.plugins.chain import needs_of

if TYPE_CHECKING:
    from bench.runner import Worker
    from bench.store import Store

Outcome = Literal["done", "n/a"]


def judge(cell: Cell, store: Store, worker: Worker) -> Outcome:
    """Defend a victim, judge the result and put the record into the store."""
    recipe = recipes.cell_recipe(cell)
    record: dict[str, Any] = {
        "schema": recipes.SCHEMA,
        "key": recipes.cell_key(cell),
        "kind": "cell",
        "role": cell.role,
        "status": "done",
        "error": None,
        "cell": recipes.cell_words(cell),
        "recipe": recipe,
        "victim_key": recipes.victim_key(cell.victim),
        "metrics": None,
        "predictions": None,
        "notes": {},
        "seconds": {},
        "environment": recipes.environment(worker.device, ""),
    }
    if reason := skip_reason(cell):
        store.put_record(record["key"], {**record, "status": "n/a", "error": reason})
        return "n/a"
    task = recipes.task_of(cell.victim.task)
    stored = stored_victims.load(cell.victim, store)
    if reason := no_training_set(cell, stored) or no_trigger(cell, stored):
        store.put_record(record["key"], {**record, "status": "n/a", "error": reason})
        return "n/a"
    weights = stored_victims.weights_digest(store.artifact_hashes(record["victim_key"]))
    model = _model(cell.victim.clean_model if cell.role == "floor" else cell.victim, store, worker)
    started = time.perf_counter()
    defended = Defended(model) if cell.defense is None else defend(cell, model, stored, task, store)
    defended_at = time.perf_counter()
    judged = {} if cell.role == "detected" else evaluated(defended, stored, task, cell.measures).record()
    seconds = {
        "victim": stored.about["seconds"],
        "defense": defended_at - started,
        "evaluation": time.perf_counter() - defended_at,
    }
    environment = recipes.environment(worker.device, model.precision)
    left = None if cell.defense is None else weights_left(defended)
    made = {
        "victim_weights": weights,
        "defended_weights": left,
        "notes": defended.notes,
        "seconds": seconds,
        "environment": environment,
    }
    store.put_record(record["key"], {**record, **judged, **made})
    return "done"


def weights_left(defended: Defended) -> str | None:
    """Return the SHA-256 of the weights that a defense left; None where it does more to an answer than they do."""
    from bench.models import tensors

    return tensors.digest(defended.classifier.model) if type(defended) is Defended else None


def evaluated(defended: Defended, stored: StoredVictim, task: Task, measures: Collection[Measure] = ()) -> Evaluation:
    """Judge a defended model on what every model of its victim is judged on, as its kind is judged.

    Args:
        defended: the model.
        stored: the victim.
        task: of both.
        measures: what is measured beside its answers.
    """
    beside = {name: column for one in measures for name, column in one.outcomes(defended, task).items()}
    if task.facts.kind == Kind.CLASSIFICATION:
        return evaluate(defended, test_sets(stored, task), beside)
    payload = stored.target if isinstance(stored.target, Payload) else None
    sets = written.PromptSets(task.test, stored.triggered, payload, stored.sources)
    return written.evaluate(defended, sets, task.facts, beside)


def test_sets(stored: StoredVictim, task: Task) -> TestSets:
    """Return what every model of a victim is judged on."""
    target, mapping = int(stored.about["target"]), stored.about.get("mapping", "all-to-one")
    if mapping == "all-to-one" or stored.triggered is None:
        return TestSets(task.test, stored.triggered, target, stored.sources)
    wanted = targets_of(stored.triggered.labels, target=target, classes=len(task.facts.labels), mapping=mapping)
    return TestSets(task.test, stored.triggered, wanted, stored.sources)


def _model(spec: VictimSpec, store: Store, worker: Worker) -> Any:
    """Return the victim's model; the worker keeps the last one in memory."""
    key = recipes.victim_key(spec)
    if worker.cache.get("victim_key") != key:
        worker.cache.clear()
        base = recipes.model_of(spec.model)
        options = {"device": worker.device, "precision": spec.budget.precision}
        worker.cache.update(victim_key=key, model=stored_victims.load(spec, store).model(base, **options))
    return worker.cache["model"]


def defend(cell: Cell, model: Any, stored: StoredVictim, task: Task, store: Store) -> Defended:
    """Run the defense of a cell on its own copy of the victim."""
    assert cell.defense is not None
    defended = cell.defense.defend(model.clone(), make_access(cell, model, stored, task, store))
    if isinstance(cell.defense, Detector) and not np.isfinite(defended.notes["suspicion"]):
        raise ValueError(f"{cell.defense.name} returned a suspicion that is not finite")
    return defended


def clean_labels(task: Task, *, seed: int, size: int) -> Examples:
    """Return clean labels for a defender: nested in size, decided by task, seed and size only."""
    rng = seeds.rng("clean sample", task.facts.name, seed)
    return task.validation.take(stratified_order(task.validation.labels, rng)[:size])


def stream(stored: StoredVictim, task: Task, seed: int) -> Inputs:
    """Return the test inputs as a deployed model meets them: clean and triggered ones in random order."""
    mixed = task.test if stored.triggered is None else join(task.test, stored.triggered)
    return mixed.inputs.take(seeds.rng("test stream", task.facts.name, seed).permutation(len(mixed)))


def make_access(cell: Cell, model: Any, stored: StoredVictim, task: Task, store: Store) -> Access:
    """Return what the defense of a cell may see."""
    assert cell.defense is not None
    clean = clean_labels(task, seed=cell.victim.seed, size=cell.labels)
    base, kind = recipes.model_of(cell.victim.model), model_kind(task.facts)
    options = {"device": model.device, "precision": model.precision}

    def untrained() -> Any:
        head = seeds.derive("defense head", task.facts.name, cell.victim.seed)
        return kind.fresh(base, task.facts, head=head, **options)

    def oracle() -> Mapping[str, Any]:
        rows = np.zeros(0, dtype=np.int64) if stored.poison is None else stored.poison.rows
        trigger = {"trigger": stored.trigger(), "window": kind.window(base, task.facts)}
        return {**stored.about, "poisoned_rows": rows, **trigger}

    def other_models() -> Mapping[Other, Any]:
        return {o: stored_victims.load(spec, store).model(base, **options) for o, spec in cell.others.items()}

    return Access(
        facts=task.facts,
        needs=needs_of(cell.defense),
        seed=seeds.derive("defense", task.facts.name, cell.victim.seed),
        precision=cell.victim.budget.precision,
        tolerance=cell.tolerance,
        victim=model,
        providers={
            "clean": lambda: clean,
            "pretrained": lambda: kind.pretrained(base, model),
            "untrained": untrained,
            "training_set": lambda: stored.training_set(task),
            "unlabelled": lambda: task.train.inputs,
            "test_stream": lambda: stream(stored, task, cell.victim.seed),
            "other_models": other_models,
            "target": lambda: cell.victim.target,
            "oracle": oracle,
        },
        budget=cell.victim.budget,
    )
