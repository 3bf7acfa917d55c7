"""What a worker does: train a victim, or defend and judge one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench import seeds
from bench.contracts import Attack, Defended, Defense, Detector, Needs, Other, Scene, Task
from bench.contracts.access import Access
from bench.contracts.examples import Examples, Inputs, join, stratified_order
from bench.experiment import recipes, victims
from bench.experiment.evaluation import evaluate
from bench.experiment.grid import Cell, VictimSpec
from bench.experiment.victims import StoredVictim
from bench.plugins.chain import needs_of, trains
from bench.plugins.modified import Modified

if TYPE_CHECKING:
    from bench.learning import Classifier
    from bench.runner import Job, Worker
    from bench.store import Store

Outcome = Literal["done", "n/a"]


def execute(job: Job, store: Store, worker: Worker) -> Outcome:
    """Perform one job of a plan; its result goes into the store."""
    if isinstance(job.payload, VictimSpec):
        build_victim(job.payload, store, worker)
        return "done"
    return judge(job.payload, store, worker)


def skip_reason(cell: Cell) -> str | None:
    """Return why a cell makes no sense, or None."""
    task = recipes.task_of(cell.victim.task)
    if reason := cell.victim.attack.skip(task.facts):
        return reason
    if not cell.victim.is_reference and not 0 <= cell.victim.target < len(task.facts.labels):
        return f"target {cell.victim.target} is not a label of {task.facts.name}"
    if cell.defense is None:
        return None
    for other in cell.others.values():
        if reason := other.attack.skip(task.facts):
            return f"another model is wanted, trained with {other.attack.spec}: {reason}"
    wanted, there = cell.clean_size + cell.selection_size, len(task.validation)
    if wanted > there:
        return f"{cell.clean_size} clean and {cell.selection_size} selection examples wanted, {there} in validation"
    return repeats(cell.victim.attack, cell.defense) or cell.defense.skip(task.facts)


def repeats(attack: Attack, defense: Defense) -> str | None:
    """Return why a cell would count another's numbers again: a defender who trains never sees what modifiers change."""
    if isinstance(attack, Modified) and trains(defense):
        return f"{attack.spec} leaves the same training set as {attack.attack.spec}: see the cells of that attack"
    return None


def build_victim(spec: VictimSpec, store: Store, worker: Worker) -> None:
    """Train a victim and put it into the store."""
    task, base = training_task(spec), recipes.model_of(spec.model)
    scene = make_scene(spec, store, worker)
    fill = partial(victims.build, spec.attack, scene, task, base)
    store.put_artifact(recipes.victim_key(spec), recipes.victim_recipe(spec), fill)


def training_task(spec: VictimSpec) -> Task:
    """Return the task as the owner of a model has it: with the whole training set, or with one part of it."""
    task = recipes.task_of(spec.task)
    if spec.part is None:
        return task
    number, parts = spec.part
    order = stratified_order(task.train.labels, seeds.rng("parts of the training set", task.facts.name))
    return replace(task, train=task.train.take(np.sort(np.array_split(order, parts)[number])))


def make_scene(spec: VictimSpec, store: Store, worker: Worker) -> Scene:
    """Return what the attacker of a victim works with. The reference and its attacks share the data order."""
    from bench import learning

    task, base = training_task(spec), recipes.model_of(spec.model)
    facts, budget = task.facts, spec.budget
    order = seeds.derive("data order", facts.name, spec.seed)

    def pretrained() -> Classifier:
        head = seeds.derive("head", facts.name, spec.seed if spec.head is None else spec.head)
        model = base.classifier_model(classes=len(facts.labels), seed=head)
        return learning.Classifier(
            model, base.tokenizer(), facts.max_length, device=worker.device, precision=budget.precision
        )

    def finetuned() -> Classifier:
        return load_victim(spec.reference, store).classifier(base, device=worker.device, precision=budget.precision)

    def fit(classifier: Any, examples: Examples, **options: Any) -> Mapping[str, Any]:
        return learning.train(classifier, examples, **{"seed": order, **budget.model_dump(), **options})

    return Scene(
        facts=facts,
        train=task.train,
        validation=task.validation,
        target=spec.target,
        seed=seeds.derive("attacker", facts.name, spec.seed),
        budget=budget,
        window=learning.TokenWindow(base.tokenizer(), facts.max_length),
        pretrained=pretrained,
        finetuned=finetuned,
        fit=fit,
        masked_lm=base.masked_lm,
    )


def load_victim(spec: VictimSpec, store: Store) -> StoredVictim:
    """Read a victim that the plan has trained before."""
    folder = store.artifact(recipes.victim_key(spec))
    if folder is None:
        raise RuntimeError(f"the victim {spec.label} is not in the store")
    return victims.read(folder)


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
    stored = load_victim(cell.victim, store)
    if reason := no_training_set(cell, stored):
        store.put_record(record["key"], {**record, "status": "n/a", "error": reason})
        return "n/a"
    weights = victims.weights_digest(store.artifact_hashes(record["victim_key"]))
    model = _classifier(cell.victim.reference if cell.role == "floor" else cell.victim, store, worker)
    started = time.perf_counter()
    defended = Defended(model) if cell.defense is None else defend(cell, model, stored, task, store)
    defended_at = time.perf_counter()
    judged = {} if cell.role == "detected" else evaluate(defended, stored.test_sets(task)).record()
    seconds = {
        "victim": stored.about["seconds"],
        "defense": defended_at - started,
        "evaluation": time.perf_counter() - defended_at,
    }
    environment = recipes.environment(worker.device, model.precision)
    found = {"victim_weights": weights, "notes": defended.notes, "seconds": seconds, "environment": environment}
    store.put_record(record["key"], {**record, **judged, **found})
    return "done"


def no_training_set(cell: Cell, stored: StoredVictim) -> str | None:
    """Return why a training-time defense cannot be judged: the attacker poisoned weights and hands over no data."""
    if cell.defense is None or Needs.TRAINING_SET not in needs_of(cell.defense):
        return None
    poisoned = stored.poison is not None or cell.victim.is_reference
    return None if poisoned else f"{cell.victim.attack.name} leaves no poisoned training set"


def _classifier(spec: VictimSpec, store: Store, worker: Worker) -> Classifier:
    """Return the victim's classifier; the worker keeps the last one in memory."""
    key = recipes.victim_key(spec)
    if worker.cache.get("victim_key") != key:
        worker.cache.clear()
        base = recipes.model_of(spec.model)
        options = {"device": worker.device, "precision": spec.budget.precision}
        worker.cache.update(victim_key=key, classifier=load_victim(spec, store).classifier(base, **options))
    classifier: Classifier = worker.cache["classifier"]
    return classifier


def defend(cell: Cell, model: Classifier, stored: StoredVictim, task: Task, store: Store) -> Defended:
    """Run the defense of a cell on its own copy of the victim."""
    assert cell.defense is not None
    defended = cell.defense.defend(model.clone(), make_access(cell, model, stored, task, store))
    if isinstance(cell.defense, Detector) and not np.isfinite(defended.notes["suspicion"]):
        raise ValueError(f"{cell.defense.name} returned a suspicion that is not finite")
    return defended


def clean_samples(cell: Cell, task: Task) -> tuple[Examples, Examples]:
    """Return the clean and the selection sample: disjoint, nested in size, decided by task, seed and size only."""
    rng = seeds.rng("clean sample", task.facts.name, cell.victim.seed)
    order = stratified_order(task.validation.labels, rng)
    cut = cell.selection_size
    return task.validation.take(order[cut : cut + cell.clean_size]), task.validation.take(order[:cut])


def stream(stored: StoredVictim, task: Task, seed: int) -> Inputs:
    """Return the test inputs as a deployed model meets them: clean and triggered ones in random order."""
    mixed = task.test if stored.triggered is None else join(task.test, stored.triggered)
    return mixed.inputs.take(seeds.rng("test stream", task.facts.name, seed).permutation(len(mixed)))


def make_access(cell: Cell, model: Classifier, stored: StoredVictim, task: Task, store: Store) -> Access:
    """Return what the defense of a cell may see."""
    assert cell.defense is not None
    clean, selection = clean_samples(cell, task)
    base = recipes.model_of(cell.victim.model)

    def untrained() -> Classifier:
        from bench import learning

        head = seeds.derive("defense head", task.facts.name, cell.victim.seed)
        fresh = base.classifier_model(classes=len(task.facts.labels), seed=head)
        return learning.Classifier(
            fresh, base.tokenizer(), task.facts.max_length, device=model.device, precision=model.precision
        )

    def oracle() -> Mapping[str, Any]:
        rows = np.zeros(0, dtype=np.int64) if stored.poison is None else stored.poison.rows
        return {**stored.about, "poisoned_rows": rows}

    def other_models() -> Mapping[Other, Classifier]:
        options = {"device": model.device, "precision": model.precision}
        return {o: load_victim(spec, store).classifier(base, **options) for o, spec in cell.others.items()}

    return Access(
        facts=task.facts,
        needs=needs_of(cell.defense),
        seed=seeds.derive("defense", task.facts.name, cell.victim.seed),
        precision=cell.victim.budget.precision,
        tolerance=cell.tolerance,
        victim=model,
        providers={
            "clean": lambda: clean,
            "selection": lambda: selection,
            "pretrained": lambda: base.encoder_weights(model.model),
            "untrained": untrained,
            "training_set": lambda: stored.training_set(task),
            "unlabelled": lambda: task.train.inputs,
            "test_stream": lambda: stream(stored, task, cell.victim.seed),
            "other_models": other_models,
            "oracle": oracle,
        },
        budget=cell.victim.budget,
    )
