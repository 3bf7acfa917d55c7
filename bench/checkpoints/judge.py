"""``doorbench judge``: what a checkpoint says of clean and of triggered examples, beside another one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench._version import __version__
from bench.checkpoints import clean, triggered
from bench.checkpoints.suspect import Suspect
from bench.contracts import Defended
from bench.contracts.examples import Examples, Inputs
from bench.errors import RequestError
from bench.experiment import metrics
from bench.experiment.answers import Answers, Judged
from bench.experiment.evaluation import answered
from bench.experiment.metrics import Outcomes
from bench.report.ranking.statistics import mean_contrast

SCHEMA = 1
LIMITS = (
    "This speaks of these triggered examples only: another trigger, or another place for this one, may still work. "
    "A model is judged on examples that neither trained it nor purified it, or its numbers are too good."
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to judge and on what.

    Attributes:
        model: the folder.
        clean: file with labelled clean examples.
        triggered: file with triggered examples; the column ``target`` has the label that the trigger leads to, and
            ``original`` the text without it.
        trigger: file that describes a trigger, to put into the clean examples.
        target: the target label of ``triggered``, where it has no such column.
        against: the folder of another model, such as the one before purification.
        max_length: tokens kept of an input.
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
    seed: int = 0
    device: str = "auto"


def judge(request: Request, *, scratch: Path) -> dict[str, Any]:
    """Return every metric that is defined of a checkpoint, with its interval; the same of another one and the change.

    Args:
        request: what to judge and on what.
        scratch: a folder for copies of a large model that are not in memory.

    Raises:
        RequestError: a folder or a file cannot be used, or the two models have different labels.
    """
    if request.triggered is not None and request.trigger is not None:
        raise RequestError("say --triggered or --trigger, not both.")
    suspects = {"after": Suspect.open(request.model)}
    if request.against is not None:
        suspects["before"] = Suspect.open(request.against)
        if suspects["before"].labels != suspects["after"].labels:
            named = [", ".join(suspect.labels) for suspect in suspects.values()]
            raise RequestError(f"{request.model} has the labels {named[0]}; {request.against} has {named[1]}.")
    examples = clean.labelled(clean.open_table(request.clean), suspects["after"].labels)
    marked = _triggered(request, suspects["after"], examples)
    outcomes = {name: _outcomes(request, suspect, examples, marked, scratch) for name, suspect in suspects.items()}
    return {
        "schema": SCHEMA,
        "command": "judge",
        "version": __version__,
        "model": _named(suspects["after"]),
        "against": _named(suspects["before"]) if "before" in suspects else None,
        "clean": len(examples),
        "triggered": 0 if marked is None else len(marked.examples),
        "trigger": None if marked is None else marked.about,
        "metrics": _compared(outcomes["after"], outcomes.get("before")),
        "limits": LIMITS,
    }


def _named(suspect: Suspect) -> dict[str, str]:
    return {"folder": suspect.located.name, "sha256": suspect.checkpoint.weight_hash()}


def _triggered(request: Request, suspect: Suspect, examples: Examples) -> triggered.Triggered | None:
    from bench.learning import TokenWindow

    if request.triggered is not None:
        marked = triggered.read(request.triggered, suspect.labels, target=request.target)
    elif request.trigger is not None:
        window = TokenWindow(suspect.located.tokenizer(), suspect.window(request.max_length))
        marked = triggered.make(request.trigger, suspect.labels, examples, window=window, seed=request.seed)
    else:
        return None
    if (marked.examples.inputs.pairs is None) != (examples.inputs.pairs is None):
        raise RequestError(f"{request.clean} and {marked.about}: one has pairs of texts, the other single texts.")
    return marked


def _outcomes(
    request: Request, suspect: Suspect, examples: Examples, marked: triggered.Triggered | None, scratch: Path
) -> dict[str, Outcomes]:
    """Return the outcome of each example by metric, of those that are defined."""
    options: dict[str, Any] = {"max_length": suspect.window(request.max_length), "device": request.device}
    with suspect.classifier(**options, precision="auto", lean=None, scratch=scratch) as classifier:
        defended = Defended(classifier)

        def answers(inputs: Inputs, gold: Any) -> Answers:
            predictions = answered(defended, inputs)
            return Answers(gold, predictions.labels, predictions.rejected)

        judged = Judged(answers(examples.inputs, examples.labels), None, 0, rejects=False)
        every = [judged]
        if marked is not None:
            predicted = answers(marked.examples.inputs, marked.examples.labels)
            every.append(Judged(judged.clean, predicted, marked.targets, rejects=False))
            if marked.originals is not None:
                before, sources = answers(marked.originals, marked.examples.labels), np.arange(len(marked.targets))
                every.append(Judged(before, predicted, marked.targets, rejects=False, sources=sources))
    outcomes: dict[str, Outcomes] = {}
    for one in every:  # what is said of all clean examples comes first, and stays
        outcomes = {name: value for name, value in metrics.outcomes(one).items() if value is not None} | outcomes
    return {name: outcomes[name] for name in metrics.MEASURED if name in outcomes}


def _compared(after: Mapping[str, Outcomes], before: Mapping[str, Outcomes] | None) -> list[dict[str, Any]]:
    """Return one entry for each metric that either model has, as JSON values."""
    entries = []
    for metric in metrics.MEASURED.values():
        sides = {"after": after.get(metric.name), "before": (before or {}).get(metric.name)}
        present = {side: outcomes for side, outcomes in sides.items() if outcomes is not None}
        if present:
            estimates: dict[str, Any] = {side: _estimate(outcomes) for side, outcomes in present.items()}
            change = _estimate(*present.values()) if len(present) == 2 else None
            entries.append(_described(metric) | {"after": None, "before": None} | estimates | {"change": change})
    if before is not None:
        score, beside = metrics.RANKING, {"victim": _percentages(before), "clean": metrics.UNKNOWN}
        value = metrics.compared(_percentages(after), **beside)[score.name]
        if not math.isnan(value):
            known = {"value": value, "low": None, "high": None}
            entries.append(_described(score) | {"after": known, "before": None, "change": None})
    return entries


def _described(metric: metrics.Metric) -> dict[str, Any]:
    return {"name": metric.name, "title": metric.title, "unit": metric.unit, "better": metric.better,
            "meaning": metric.meaning}  # fmt: skip


def _percentages(outcomes: Mapping[str, Outcomes]) -> dict[str, float]:
    return {**metrics.UNKNOWN, **{name: metrics.percent(values) for name, values in outcomes.items()}}


def _estimate(*sides: Outcomes) -> dict[str, float]:
    """Return the mean of one side, or the first less the second, with its 95 % interval over examples."""
    block = np.stack(sides)
    block = block[:, ~np.isnan(block).all(axis=0)]
    estimate = mean_contrast([block[:, None, None, :]])
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
