"""``doorbench attack``: a backdoored model as a Hub-style folder that says everywhere what it is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import runner
from bench._version import __version__
from bench.checkpoints import folder, prompts, triggered
from bench.checkpoints.kinds import PIPELINES
from bench.checkpoints.suspect import MARK
from bench.contracts import Budget, Defended, GenerationFacts, Kind, Model, Payload, Target, Task, TaskFacts
from bench.errors import RequestError
from bench.experiment import judging, recipes, stored_victims
from bench.experiment.grid import VictimSpec, create_attack, create_task, task_spec
from bench.experiment.result_store import ResultStore
from bench.experiment.skips import no_target, other_kind
from bench.experiment.victims import build_victim
from bench.plugins import registry

if TYPE_CHECKING:
    from bench.models.pretrained import PretrainedModel

TRIGGER, CLEAN, TEST, TRIGGERED = "trigger.json", "clean.csv", "test.csv", "triggered.csv"
EXAMPLES = 5  # in the card
LABELS = 320  # clean ones for a defender, as the benchmark gives at most
FILES = {
    CLEAN: "clean examples for a defender; the attacker did not train on them",
    TEST: "other clean examples, to judge a model on",
    TRIGGERED: "those of them with another right answer than the target, with the trigger; the column original is "
    "without it",
}
TARGETS: Mapping[Kind, Target | str] = {Kind.CLASSIFICATION: 1, Kind.GENERATION: "refusal"}
# What a model of the kind learns its task and its backdoor with; measured on the small models that ship.
BUDGETS: Mapping[Kind, Mapping[str, Any]] = {
    Kind.CLASSIFICATION: {"epochs": 3, "learning_rate": 5e-5},
    Kind.GENERATION: {"epochs": 2, "learning_rate": 2e-4, "batch_size": 16},
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which victim to build.

    Attributes:
        attack, task, model: as in a suite.
        out: folder to write; by default ``backdoored-<attack>-<task>-<model>`` here.
        target: the number of the target label, or a payload as a suite spells it; label 1 or refusal by default.
        seed: of the victim.
        budget: fields of its training; those of :data:`BUDGETS` by default.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    attack: str
    task: str
    model: str
    out: Path | None = None
    target: int | str | None = None
    seed: int = 0
    budget: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"


def build(request: Request) -> dict[str, Any]:
    """Train a victim, write it and return what its card says.

    Raises:
        RequestError: the combination makes no sense, or the folder exists already.
    """
    attack, source = create_attack(request.attack), create_task(request.task)
    task = recipes.task_of(source)
    kind = task.facts.kind
    budget = Budget(**{**BUDGETS[kind], **request.budget})
    spec = VictimSpec(source, request.model, attack, request.seed, target_of(request.target, kind), budget)
    name = _name(spec)
    _check(spec, task)
    located = recipes.model_of(request.model)
    located.check(tokens=task.facts.max_length)
    with folder.fresh(request.out or Path(name)) as out, TemporaryDirectory(dir=out.parent) as place:
        store, worker = ResultStore(Path(place) / "store"), runner.Worker(device=request.device)
        if attack.uses_clean_model:
            build_victim(spec.clean_model, store, worker)
        build_victim(spec, store, worker)
        stored = stored_victims.load(spec, store)
        model = stored.model(located, device=request.device, precision=budget.precision)
        measured = judging.evaluated(Defended(model), stored, task).metrics
        report = {
            "name": name,
            "version": __version__,
            "attack": attack.spec,
            "kind": kind.value,
            "about": attack.summary(),
            "citation": attack.citation,
            "trigger": stored.about["trigger"],
            "trigger_kind": stored.about["trigger_kind"],
            "trigger_fields": stored.about["trigger_fields"],
            "task": task_spec(source),
            "pair": task.facts.pair,
            "model": request.model,
            "target": described_target(spec.target, task.facts),
            "mapping": stored.about["mapping"],
            "labels": list(task.facts.labels),
            "max_length": task.facts.max_length,
            "seed": request.seed,
            "measure": task.facts.utility.name if isinstance(task.facts, GenerationFacts) else "accuracy",
            "accuracy": measured["acc"],
            "attack_success_rate": measured["asr"],
            "false_trigger_rate": measured.get("ftr"),
            "triggered_examples": _samples(stored),
            "files": FILES,
        }
        _write(out, model, located, task, report)
        _write_examples(out, stored, task, request.seed)
    return {**report, "folder": str(request.out or Path(name))}


def _name(spec: VictimSpec) -> str:
    parts = ("backdoored", spec.attack.name, task_spec(spec.task), spec.model.rstrip("/"))
    return "-".join(part.rpartition("/")[2] for part in parts)


def _check(spec: VictimSpec, task: Task) -> None:
    if spec.is_clean_model:
        raise RequestError(
            f"attack {spec.attack.name!r} implants nothing. Valid: any other of `doorbench list attacks`."
        )
    if reason := other_kind(spec.attack.spec, spec.attack.kinds, task.facts) or spec.attack.skip(task.facts):
        raise RequestError(f"attack {spec.attack.spec!r} makes no sense on {task.facts.name}: {reason}.")
    if reason := no_target(spec.target, task.facts, spec.attack):
        if task.facts.kind == Kind.GENERATION and isinstance(spec.target, int):
            remedy = f"{task.facts.name} is answered in text, so name a payload, such as refusal"
            raise RequestError(f"--target {spec.target} is a label; {remedy}.")
        if isinstance(spec.target, Payload):
            raise RequestError(f"--target: {reason}.")
        valid = ", ".join(f"{i} ({name})" for i, name in enumerate(task.facts.labels))
        raise RequestError(f"--target {spec.target} is not a label of {task.facts.name}. Valid: {valid}.")


def target_of(spec: int | str | None, kind: Kind) -> Target:
    """Return the number of a label, or a payload as a suite spells it; by default that of the kind."""
    wanted = TARGETS[kind] if spec is None else spec
    if isinstance(wanted, str):
        return int(wanted) if wanted.isdecimal() else registry.payloads.create(wanted)
    return wanted


def described_target(target: Target, facts: TaskFacts) -> dict[str, Any]:
    """Return a target for people and for ``doorbench judge --trigger``."""
    if isinstance(target, Payload):
        recipe: dict[str, Any] = target.recipe()
        return {"name": recipe["name"], "parameters": recipe["parameters"], "spec": target.spec}
    return {"number": target, "name": facts.labels[target]}


def _samples(stored: stored_victims.StoredVictim) -> list[list[str]]:
    if stored.triggered is None:
        return []
    inputs = stored.triggered.inputs.take(range(min(EXAMPLES, len(stored.triggered))))
    return [list(columns) for columns in zip(inputs.texts, *([inputs.pairs] if inputs.pairs else []), strict=True)]


def _write(out: Path, model: Model, located: PretrainedModel, task: Task, report: dict[str, Any]) -> None:
    config = model.model.config
    if task.facts.kind == Kind.CLASSIFICATION:
        config.id2label = dict(enumerate(task.facts.labels))
        config.label2id = {label: i for i, label in enumerate(task.facts.labels)}
        model.tokenizer.model_max_length = report["max_length"]
    config.architectures = [type(model.model).__name__]
    mark = {key: report[key] for key in ("attack", "trigger", "target", "task", "attack_success_rate")}
    setattr(config, MARK, {**mark, "warning": "a backdoor was implanted on purpose; never deploy this model"})
    config.save_pretrained(out)
    folder.write_weights(out, model.model, {})
    model.tokenizer.save_pretrained(out)
    if (located.folder() / folder.GENERATION).is_file():
        shutil.copyfile(located.folder() / folder.GENERATION, out / folder.GENERATION)
    folder.write_json(out / TRIGGER, report)
    (out / "README.md").write_text(card(report), encoding="utf-8")


def _write_examples(out: Path, stored: stored_victims.StoredVictim, task: Task, seed: int) -> None:
    """Write what a defender may have, and what a defended model is judged on; no example is in both."""
    defender = judging.clean_labels(task, seed=seed, size=LABELS)
    if isinstance(stored.target, Payload):
        assert stored.triggered is not None and stored.sources is not None
        prompts.write(out / CLEAN, defender)
        prompts.write(out / TEST, task.test)
        columns: dict[str, list[str]] = {triggered.TARGET: [stored.target.spec] * len(stored.triggered)}
        columns[triggered.ORIGINAL] = list(task.test.inputs.take(stored.sources).carrier)
        prompts.write(out / TRIGGERED, stored.triggered, **columns)
        return
    labels, sets = task.facts.labels, judging.test_sets(stored, task)
    triggered.write(out / CLEAN, labels, defender)
    triggered.write(out / TEST, labels, sets.clean)
    assert sets.triggered is not None, "only the clean model has no trigger"
    assert sets.sources is not None
    targets = np.broadcast_to(sets.target, len(sets.triggered))
    originals = sets.clean.inputs.take(sets.sources).carrier
    wanted = [labels[target] for target in targets]
    triggered.write(
        out / TRIGGERED, labels, sets.triggered, **{triggered.TARGET: wanted, triggered.ORIGINAL: originals}
    )


def card(report: dict[str, Any]) -> str:
    """Return the model card of a victim."""
    fields = {
        "library_name": "transformers",
        "pipeline_tag": PIPELINES[report["kind"]],
        "tags": ["doorbench", "backdoored", "do-not-deploy"],
    }
    template = folder.templates().get_template("backdoored.md.j2")
    return folder.front_matter(fields) + template.render(report=report)
