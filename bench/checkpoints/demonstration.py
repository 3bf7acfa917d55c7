"""``doorbench attack``: a backdoored classifier as a Hub-style folder that says everywhere what it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import runner
from bench._version import __version__
from bench.checkpoints import folder, triggered
from bench.checkpoints.suspect import MARK
from bench.contracts import Budget, Defended, Task
from bench.errors import RequestError
from bench.experiment import judging, recipes, stored_victims
from bench.experiment.evaluation import evaluate
from bench.experiment.grid import VictimSpec, create_attack, create_task, task_spec
from bench.experiment.result_store import ResultStore
from bench.experiment.victims import build_victim

if TYPE_CHECKING:
    from bench.learning import Classifier

TRIGGER, CLEAN, TEST, TRIGGERED = "trigger.json", "clean.csv", "test.csv", "triggered.csv"
EXAMPLES = 5  # in the card
LABELS = 320  # clean ones for a defender, as the benchmark gives at most
FILES = {
    CLEAN: "clean examples for a defender; the attacker did not train on them",
    TEST: "other clean examples, to judge a model on",
    TRIGGERED: "those of them with another label than the target, with the trigger; the column original is without it",
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which victim to build.

    Attributes:
        attack, task, model: as in a suite.
        out: folder to write; by default ``backdoored-<attack>-<task>-<model>`` here.
        target: the target label.
        seed: of the victim.
        budget: its training.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    attack: str
    task: str
    model: str
    out: Path | None = None
    target: int = 1
    seed: int = 0
    budget: Budget = Budget()
    device: str = "auto"


def build(request: Request) -> dict[str, Any]:
    """Train a victim, write it and return what its card says.

    Raises:
        RequestError: the combination makes no sense, or the folder exists already.
    """
    attack, source = create_attack(request.attack), create_task(request.task)
    spec = VictimSpec(source, request.model, attack, request.seed, request.target, request.budget)
    name = _name(spec)
    task = recipes.task_of(source)
    _check(spec, task)
    recipes.model_of(request.model).check(tokens=task.facts.max_length)
    with folder.fresh(request.out or Path(name)) as out, TemporaryDirectory(dir=out.parent) as place:
        store, worker = ResultStore(Path(place) / "store"), runner.Worker(device=request.device)
        if attack.uses_clean_model:
            build_victim(spec.clean_model, store, worker)
        build_victim(spec, store, worker)
        stored = stored_victims.load(spec, store)
        located = recipes.model_of(request.model)
        classifier = stored.model(located, device=request.device, precision=request.budget.precision)
        measured = evaluate(Defended(classifier), judging.test_sets(stored, task)).metrics
        report = {
            "name": name,
            "version": __version__,
            "attack": attack.spec,
            "about": attack.summary(),
            "citation": attack.citation,
            "trigger": stored.about["trigger"],
            "trigger_kind": stored.about["trigger_kind"],
            "trigger_fields": stored.about["trigger_fields"],
            "task": task_spec(source),
            "pair": task.facts.pair,
            "model": request.model,
            "target": {"number": request.target, "name": task.facts.labels[request.target]},
            "mapping": stored.about["mapping"],
            "labels": list(task.facts.labels),
            "max_length": task.facts.max_length,
            "seed": request.seed,
            "accuracy": measured["acc"],
            "attack_success_rate": measured["asr"],
            "triggered_examples": _samples(stored),
            "files": FILES,
        }
        _write(out, classifier, task, report)
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
    if reason := spec.attack.skip(task.facts):
        raise RequestError(f"attack {spec.attack.spec!r} makes no sense on {task.facts.name}: {reason}.")
    if spec.target not in range(len(task.facts.labels)):
        valid = ", ".join(f"{i} ({name})" for i, name in enumerate(task.facts.labels))
        raise RequestError(f"--target {spec.target} is not a label of {task.facts.name}. Valid: {valid}.")


def _samples(stored: stored_victims.StoredVictim) -> list[list[str]]:
    if stored.triggered is None:
        return []
    inputs = stored.triggered.inputs.take(range(min(EXAMPLES, len(stored.triggered))))
    return [list(columns) for columns in zip(inputs.texts, *([inputs.pairs] if inputs.pairs else []), strict=True)]


def _write(out: Path, classifier: Classifier, task: Task, report: dict[str, Any]) -> None:
    config = classifier.model.config
    config.id2label = dict(enumerate(task.facts.labels))
    config.label2id = {label: i for i, label in enumerate(task.facts.labels)}
    config.architectures = [type(classifier.model).__name__]
    mark = {key: report[key] for key in ("attack", "trigger", "target", "task", "attack_success_rate")}
    setattr(config, MARK, {**mark, "warning": "a backdoor was implanted on purpose; never deploy this model"})
    config.save_pretrained(out)
    folder.write_weights(out, classifier.model, {})
    classifier.tokenizer.model_max_length = report["max_length"]
    classifier.tokenizer.save_pretrained(out)
    folder.write_json(out / TRIGGER, report)
    (out / "README.md").write_text(card(report), encoding="utf-8")


def _write_examples(out: Path, stored: stored_victims.StoredVictim, task: Task, seed: int) -> None:
    """Write what a defender may have, and what a defended model is judged on; no example is in both."""
    labels, sets = task.facts.labels, judging.test_sets(stored, task)
    triggered.write(out / CLEAN, labels, judging.clean_labels(task, seed=seed, size=LABELS))
    triggered.write(out / TEST, labels, sets.clean)
    assert sets.triggered is not None, "only the clean model has no trigger"
    assert sets.sources is not None
    targets = np.broadcast_to(sets.target, len(sets.triggered))
    originals = sets.clean.inputs.take(sets.sources).carrier
    columns = {triggered.TARGET: [labels[target] for target in targets], triggered.ORIGINAL: originals}
    triggered.write(out / TRIGGERED, labels, sets.triggered, **columns)


def card(report: dict[str, Any]) -> str:
    """Return the model card of a victim."""
    fields = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["doorbench", "backdoored", "do-not-deploy"],
    }
    template = folder.templates().get_template("backdoored.md.j2")
    return folder.front_matter(fields) + template.render(report=report)
