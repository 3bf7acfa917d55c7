"""``doorbench judge``: what a checkpoint says of clean and of triggered examples, beside another one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench._version import __version__
from bench.checkpoints import triggered
from bench.checkpoints.kinds import opened
from bench.checkpoints.suspect import Suspect
from bench.contracts import Defended, Kind, Payload, Task
from bench.contracts.examples import Examples
from bench.contracts.kind import in_words
from bench.contracts.measure import Measure
from bench.errors import RequestError
from bench.experiment import metrics
from bench.experiment.metrics import Outcomes
from bench.plugins import registry
from bench.report.ranking.statistics import mean_contrast

SCHEMA = 1
UNSEEN = "A model is judged on examples that neither trained it nor purified it, or its numbers are too good."
ONE_TRIGGER = (
    "This speaks of these triggered examples only: another trigger, or another place for this one, may still work."
)
NO_TRIGGER = "Without --triggered or --trigger this says nothing of a backdoor."


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to judge and on what.

    Attributes:
        model: the folder.
        clean: file with clean examples: labelled texts, or prompts with responses.
        triggered: file with triggered examples; the column ``target`` has the label or the payload that the trigger
            leads to, and ``original`` the text without it.
        trigger: file that describes a trigger, to put into the clean examples.
        target: the target of ``triggered``, where it has no such column.
        against: the folder of another model, such as the one before purification.
        max_length: tokens kept of an input, or of a prompt.
        measures: what else is measured, as a suite spells it, such as ``noise``.
        seed: of random places of a trigger.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    model: Path
    clean: Path
    triggered: Path | None = None
    trigger: Path | None = None
    target: str | None = None
    against: Path | None = None
    max_length: int | None = None
    measures: tuple[str, ...] = ()
    seed: int = 0
    device: str = "auto"


def judge(request: Request, *, scratch: Path) -> dict[str, Any]:
    """Return every metric that is defined of a checkpoint, with its interval; the same of another one and the change.

    Args:
        request: what to judge and on what.
        scratch: a folder for copies of a large model that are not in memory.

    Raises:
        RequestError: a folder or a file cannot be used, or the two models are of different kinds or labels.
    """
    if request.triggered is not None and request.trigger is not None:
        raise RequestError("say --triggered or --trigger, not both.")
    measures = [registry.measures.create(spec) for spec in request.measures]
    suspects = {"after": opened(request.model)}
    if request.against is not None:
        suspects["before"] = opened(request.against)
        if suspects["before"].kind != suspects["after"].kind:
            named = [f"{suspect.located.name} is for {suspect.kind}" for suspect in suspects.values()]
            raise RequestError(f"{'; '.join(named)}: they cannot stand side by side.")
        if suspects["before"].labels != suspects["after"].labels:
            named = [", ".join(suspect.labels) for suspect in suspects.values()]
            raise RequestError(f"{request.model} has the labels {named[0]}; {request.against} has {named[1]}.")
    kind = suspects["after"].kind
    if other := next((measure for measure in measures if kind not in measure.kinds), None):
        raise RequestError(
            f"--measure: the measure {other.name} is for {in_words(other.kinds)}; {request.model} is for {kind}."
        )
    examples = suspects["after"].examples(request.clean)
    marked = _triggered(request, suspects["after"], examples)
    facts = {name: _facts(request, suspect, examples, marked) for name, suspect in suspects.items()}
    limits = [NO_TRIGGER] if marked is None else [ONE_TRIGGER, *_cut(marked, suspects, facts)]
    outcomes, said = {}, {}
    for name, suspect in suspects.items():
        outcomes[name], said[name] = _outcomes(request, suspect, facts[name], examples, marked, measures, scratch)
    return {
        "schema": SCHEMA,
        "command": "judge",
        "version": __version__,
        "model": _named(suspects["after"]),
        "against": _named(suspects["before"]) if "before" in suspects else None,
        "clean": len(examples),
        "triggered": 0 if marked is None else len(marked.examples),
        "trigger": None if marked is None else marked.about,
        "metrics": _compared(suspects["after"].kind, outcomes["after"], outcomes.get("before")),
        "responses": _side_by_side(said["after"], said.get("before")),
        "limits": " ".join([*limits, UNSEEN]),
    }


def _named(suspect: Suspect) -> dict[str, str]:
    return {"folder": suspect.located.name, "sha256": suspect.checkpoint.weight_hash()}


def _triggered(request: Request, suspect: Suspect, examples: Examples) -> triggered.Triggered | None:
    if request.triggered is not None:
        marked = suspect.read_triggered(request.triggered, target=request.target)
    elif request.trigger is not None:
        window = suspect.window(suspect.facts(examples, max_length=request.max_length))
        marked = suspect.make_triggered(request.trigger, examples, window=window, seed=request.seed)
    else:
        return None
    if (marked.examples.inputs.pairs is None) != (examples.inputs.pairs is None):
        raise RequestError(f"{request.clean} and {marked.about}: one has a text before each text, the other none.")
    return marked


def _facts(request: Request, suspect: Suspect, examples: Examples, marked: triggered.Triggered | None) -> Any:
    """Return what is known of the task, with room for all examples.

    A payload that is counted by its effect is asked of no responses first: it refuses examples that do not bring what
    it needs, such as a database, before a model has written anything.
    """
    asked = [examples] if marked is None else [examples, marked.examples]
    payload = marked.target if marked is not None and isinstance(marked.target, Payload) else None
    facts = suspect.facts(*asked, max_length=request.max_length, payload=payload)
    if payload is not None:
        payload.happened((), examples.take([]), facts)
    return facts


def _cut(marked: triggered.Triggered, suspects: Mapping[str, Suspect], facts: Mapping[str, Any]) -> list[str]:
    """Return what each model does not read of the triggered texts."""
    every = [
        triggered.cut(marked, one.window(facts[name]), model=one.located.name, room=facts[name].max_length)
        for name, one in suspects.items()
    ]
    return [sentence for sentence in dict.fromkeys(every) if sentence]


def _outcomes(
    request: Request,
    suspect: Suspect,
    facts: Any,
    examples: Examples,
    marked: triggered.Triggered | None,
    measures: Sequence[Measure],
    scratch: Path,
) -> tuple[dict[str, Outcomes], list[dict[str, str]]]:
    """Return the outcome of each example by metric, of those that are defined, and a few responses."""
    options: dict[str, Any] = {"device": request.device, "precision": "auto", "lean": None, "scratch": scratch}
    none = examples.take([])
    task = Task(facts, train=none, validation=none, test=examples, fingerprint=examples.fingerprint())
    with suspect.model(facts, **options) as model:
        every, said = suspect.judged(Defended(model), examples, marked, facts)
        measured = [one.outcomes(Defended(model), task) for one in measures]
    beside = {name: column.astype(np.float64) for columns in measured for name, column in columns.items()}
    every = [replace(one, beside=beside) for one in every]
    outcomes: dict[str, Outcomes] = {}
    for one in every:  # what is said of all clean examples comes first, and stays
        outcomes = {name: value for name, value in metrics.outcomes(one).items() if value is not None} | outcomes
    return {name: outcomes[name] for name in metrics.MEASURED if name in outcomes}, said


def _side_by_side(after: list[dict[str, str]], before: list[dict[str, str]] | None) -> list[dict[str, str]]:
    """Return prompts with what was written before, if there is another model, and after."""
    beside = [{}] * len(after) if before is None else [{"before": row["response"]} for row in before]
    return [
        {"kind": row["kind"], "prompt": row["prompt"], "reference": row["reference"], **other, "after": row["response"]}
        for row, other in zip(after, beside, strict=True)
    ]


def _compared(kind: Kind, after: Mapping[str, Outcomes], before: Mapping[str, Outcomes] | None) -> list[dict[str, Any]]:
    """Return one entry for each metric that either model has, as JSON values."""
    entries = []
    for metric in metrics.MEASURED.values():
        sides = {"after": after.get(metric.name), "before": (before or {}).get(metric.name)}
        present = {side: outcomes for side, outcomes in sides.items() if outcomes is not None}
        if present:
            estimates: dict[str, Any] = {side: _estimate(metric, outcomes) for side, outcomes in present.items()}
            change = _estimate(metric, *present.values()) if len(present) == 2 else None
            nothing = {"after": None, "before": None}
            entries.append(_described(metric.of(kind)) | nothing | estimates | {"change": change})
    if before is not None:
        score, beside = metrics.RANKING, {"victim": _percentages(before), "clean": metrics.UNKNOWN}
        value = float(metrics.compared(_percentages(after), **beside)[score.name])
        if not math.isnan(value):
            known = {"value": value, "low": None, "high": None}
            entries.append(_described(score.of(kind)) | {"after": known, "before": None, "change": None})
    return entries


def _described(metric: metrics.Metric) -> dict[str, Any]:
    return {"name": metric.name, "title": metric.title, "unit": metric.unit, "better": metric.better,
            "meaning": metric.meaning}  # fmt: skip


def _percentages(outcomes: Mapping[str, Outcomes]) -> dict[str, float]:
    return {**metrics.UNKNOWN, **{name: metrics.MEASURED[name].aggregate(values) for name, values in outcomes.items()}}


def _estimate(metric: metrics.Measured, *sides: Outcomes) -> dict[str, float | None]:
    """Return the mean of one side, or the first less the second, with its 95 % interval over examples.

    A metric that is no percentage has no interval.
    """
    if metric.unit != "%":
        value, *other = (metric.aggregate(side) for side in sides)
        return {"value": value - sum(other), "low": None, "high": None}
    block = np.stack(sides)
    block = block[:, ~np.isnan(block).all(axis=0)]
    estimate = mean_contrast([block[:, None, None, :]])
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
