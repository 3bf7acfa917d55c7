"""How a victim is trained: what the attacker works with, the attack itself and the triggered test set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import seeds
from bench.contracts import Attack, Mapped, Scene, Target, Task, Trigger, Window
from bench.contracts.examples import Examples, IntArray, stratified_order
from bench.contracts.goal import goal_of
from bench.errors import RequestError
from bench.experiment import recipes, stored_victims
from bench.experiment.grid import VictimSpec
from bench.experiment.kinds import model_kind

if TYPE_CHECKING:
    from bench.models.pretrained import PretrainedModel
    from bench.runner import Worker
    from bench.store import Store


def build_victim(spec: VictimSpec, store: Store, worker: Worker) -> None:
    """Train a victim and put it into the store."""
    task, base = training_task(spec), recipes.model_of(spec.model)
    if not spec.is_clean_model and (
        problem := model_kind(task.facts).unreachable(base, task.facts, spec.target, task.train)
    ):
        raise RequestError(problem)
    scene = make_scene(spec, store, worker)
    fill = partial(build, spec.attack, scene, task, base)
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
    """Return what the attacker of a victim works with. The clean model and its attacks share the data order."""
    from bench import learning

    task, base = training_task(spec), recipes.model_of(spec.model)
    facts, budget = task.facts, spec.budget
    kind, options = model_kind(facts), {"device": worker.device, "precision": budget.precision}
    order = seeds.derive("data order", facts.name, spec.seed)

    def pretrained() -> Any:
        head = seeds.derive("head", facts.name, spec.seed if spec.head is None else spec.head)
        return kind.fresh(base, facts, head=head, **options)

    def finetuned() -> Any:
        return stored_victims.load(spec.clean_model, store).model(base, **options)

    def fit(classifier: Any, examples: Examples, **options: Any) -> Mapping[str, Any]:
        return learning.train(classifier, examples, **{"seed": order, **budget.model_dump(), **options})

    return Scene(
        facts=facts,
        train=task.train,
        validation=task.validation,
        target=spec.target,
        seed=seeds.derive("attacker", facts.name, spec.seed),
        budget=budget,
        window=kind.window(base, facts),
        pretrained=pretrained,
        finetuned=finetuned,
        fit=fit,
        masked_lm=base.masked_lm,
    )


def build(attack: Attack, scene: Scene, task: Task, pretrained: PretrainedModel, folder: Path) -> None:
    """Implant a backdoor and write everything that later cells need into ``folder``."""
    started = time.perf_counter()
    victim = attack.implant(scene)
    seconds = time.perf_counter() - started
    triggered = None
    if victim.trigger is not None:
        options: dict[str, Any] = {"target": victim.target, "mapping": victim.mapping}
        rows = triggered_rows(task, victim.trigger, **options)
        triggered = (triggered_test(task, victim.trigger, window=scene.window, seed=scene.seed, **options), rows)
    stored_victims.write(
        folder,
        victim,
        attack=attack,
        kind=task.facts.kind,
        pretrained=pretrained,
        triggered=triggered,
        seconds=seconds,
    )


def triggered_rows(task: Task, trigger: Trigger, *, target: Target, mapping: Mapped = "all-to-one") -> IntArray:
    """Return the test rows that a trigger is put into: it applies, and what is right is not what the attacker wants."""
    goal = goal_of(target, classes=len(task.facts.labels), mapping=mapping)
    rows = np.flatnonzero(goal.changes(task.test))
    if len(rows) == 0:
        raise ValueError(f"every test example of {task.facts.name} has the target {recipes.target_words(target)}")
    rows = rows[trigger.applicable(task.test.take(rows).inputs)]
    if len(rows) == 0:
        raise ValueError(f"the trigger applies to no test example of {task.facts.name}: {trigger.describe()}")
    return rows


def triggered_test(
    task: Task, trigger: Trigger, *, target: Target, window: Window, seed: int, mapping: Mapped = "all-to-one"
) -> Examples:
    """Return the triggered test examples whose gold label is not their target, with their gold labels or references.

    Examples to which the trigger cannot be applied are left out.
    """
    others = task.test.take(triggered_rows(task, trigger, target=target, mapping=mapping))
    inputs = trigger.apply(others.inputs, window=window, rng=seeds.rng("trigger test set", seed))
    return replace(others, inputs=inputs)
