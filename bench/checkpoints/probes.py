"""The detectors and filters that an inspection runs: in which order, how long each takes, what each says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench import seeds
from bench.checkpoints import clean
from bench.checkpoints.suspect import Suspect
from bench.contracts import Defended, Defense, Model, Needs, Precision, TaskFacts
from bench.contracts.access import Access
from bench.contracts.examples import Inputs
from bench.errors import RequestError, unknown
from bench.experiment.skips import other_kind
from bench.plugins import registry

KINDS = ("detection", "filter")
TUNING_NOTES = ("tried", "selection_", "forward_passes")  # how a filter was tuned, which a report does not need
COSTS = Path(__file__).with_name("costs.json")  # written by tests/performance/costs.py
CANNOT = "a checkpoint alone cannot offer it"
REMEDIES = {
    Needs.CLEAN: "give --clean",
    Needs.UNLABELLED: "give --clean, whose texts are used without their labels",
    Needs.PRETRAINED: "give --pretrained",
}


@dataclass(frozen=True)
class Given:
    """What a user has handed over.

    Attributes:
        suspect: the model's folder.
        facts: of the model's task.
        data: clean examples.
        pretrained: the clean counterpart.
        texts: to run through the filters.
        seed: of the tests.
    """

    suspect: Suspect
    facts: TaskFacts
    data: clean.CleanData | None
    pretrained: Any
    texts: Inputs | None
    seed: int

    @property
    def needs(self) -> frozenset[Needs]:
        """What a test may ask for."""
        of_data = () if self.data is None else (Needs.CLEAN, Needs.UNLABELLED)
        return frozenset((*of_data, *(() if self.pretrained is None else (Needs.PRETRAINED,))))

    def access(self, received: Model, needs: frozenset[Needs]) -> Access:
        """Return what a test with these needs may see."""
        head = seeds.derive("defense head", "own", self.seed)
        providers: dict[str, Callable[[], Any]] = {
            "pretrained": lambda: self.pretrained,
            "untrained": lambda: self.suspect.untrained(received, self.pretrained, seed=head),
        }
        if (data := self.data) is not None:
            providers |= {"clean": lambda: data.tuning, "unlabelled": lambda: data.tuning.inputs}
        return Access(
            facts=self.facts, needs=needs, seed=seeds.derive("defense", "own", self.seed),
            precision=Precision.AUTO, tolerance=2.0, victim=received, providers=providers,
        )  # fmt: skip


def chosen(names: tuple[str, ...] | None) -> list[type[Defense]]:
    """Return the detectors and filters of these names, by default all.

    Raises:
        RequestError: a name is none.
    """
    every = [entry.plugin for _, entry in sorted(registry.defenses.entries.items()) if entry.plugin.kind in KINDS]
    if names is None:
        return every
    known = {plugin.name: plugin for plugin in every}
    for name in names:
        if name not in known:
            raise unknown("detector or filter", name, known)
    return [known[name] for name in names]


def planned(tests: Sequence[type[Defense]], given: Given, *, pass_seconds: float | None) -> list[dict[str, Any]]:
    """Return one result for each detector and filter, the cheapest first; those that cannot run say why, at the end.

    Args:
        tests: to run.
        given: what they may ask for.
        pass_seconds: how long this model takes for one example, to say how long each test will take; None if unknown.
    """
    results = [_planned(plugin, given, pass_seconds) for plugin in tests]
    last = float("inf")  # a test that was never measured comes after those that were
    return sorted(results, key=lambda result: (result["status"] != "waiting", result["expected_seconds"] or last))


def run(result: dict[str, Any], given: Given, received: Model) -> None:
    """Run a test that waits and complete its result."""
    defense, began = registry.defenses.create(result["name"]), time.perf_counter()
    try:
        measured = _result(defense, received, given.access(received, defense.needs), given)
        result |= {**measured, "status": "done", "seconds": time.perf_counter() - began}
    except Exception as error:  # one failing test must not stop the others; the report shows the error
        result |= {"status": "failed", "why": f"{type(error).__name__}: {error}".partition("\n")[0]}


@cache
def costs() -> Mapping[str, float]:
    """Return by name how many passes over one example a test costs, as measured with 64 clean examples."""
    passes: Mapping[str, float] = json.loads(COSTS.read_text(encoding="utf-8"))
    return passes


def _planned(plugin: type[Defense], given: Given, pass_seconds: float | None) -> dict[str, Any]:
    cost = costs().get(plugin.name)
    result: dict[str, Any] = {
        "name": plugin.name,
        "kind": plugin.kind,
        "about": plugin.summary(),
        "status": "waiting",
        "why": "",
        "expected_seconds": None if cost is None or pass_seconds is None else cost * pass_seconds,
        "seconds": None,
        "score": None,
        "notes": {},
    }
    try:
        made = registry.defenses.create(plugin.name)
        why = other_kind(made.spec, made.kinds, given.facts) or made.skip(given.facts)
    except RequestError as error:
        why = str(error)
    if not why and (lacking := sorted(plugin.needs - given.needs)):
        why = "it needs " + "; ".join(f"{need}: {REMEDIES.get(need, CANNOT)}" for need in lacking)
    return {**result, "status": "not run", "why": why, "expected_seconds": None} if why else result


def _result(defense: Defense, received: Model, access: Access, given: Given) -> dict[str, Any]:
    defended = defense.defend(received.clone(), access)
    notes = {
        name: float(f"{value:.3g}") if isinstance(value, float) else value
        for name, value in defended.notes.items()
        if isinstance(value, str | int | float | list) and not name.startswith(TUNING_NOTES)
    }
    if defense.kind == "detection":
        return {"score": suspicion(defended), "notes": notes}
    rejected: dict[str, Any] = {}
    if given.data is not None and defended.rejects:
        rejected["clean examples rejected, percent"] = 100 * float(
            defended.predict(given.data.selection.inputs).rejected.mean()
        )
    if given.texts is not None and defended.rejects:
        flags = defended.predict(given.texts).rejected
        rejected["given texts rejected, percent"] = 100 * float(flags.mean())
        rejected["rejected texts"] = [given.texts.carrier[row] for row in np.flatnonzero(flags)[:20]]
    return {"notes": {**rejected, **notes}}


def suspicion(defended: Defended) -> float | None:
    """Return the suspicion score of a detector's result; higher is more suspicious."""
    value = getattr(defended, "suspicion", None)
    if value is None:
        value = defended.notes.get("suspicion")
    return None if value is None else float(value)
