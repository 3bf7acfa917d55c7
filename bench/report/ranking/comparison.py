"""Two defenses on the same cells: how far apart they are, over all attacks and against each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError, unknown
from bench.experiment.metrics import Metric, Show, shown
from bench.experiment.roles import VICTIM
from bench.report.ranking.contrasts import Measured, measure
from bench.report.ranking.results import Results
from bench.store.words import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

METRICS = tuple(shown(Show.CLAIMS))
EVERY = "all attacks"


@dataclass(frozen=True)
class Difference:
    """How far the first defense lies above the second in one metric.

    Attributes:
        attack: against which; ``EVERY`` for the mean over all places.
        metric: what is compared.
        measured: the first less the second, in percentage points; its estimate is None where no cells can be compared.
    """

    attack: str
    metric: Metric
    measured: Measured

    @property
    def verdict(self) -> str:
        """Which of the two is better, if the interval says so."""
        estimate = self.measured.estimate
        if estimate is None or estimate.low <= 0 <= estimate.high:
            return ""
        return "first" if (estimate.value > 0) == (self.metric.better == "higher") else "second"


@dataclass(frozen=True)
class Comparison:
    """Everything that is said of two defenses.

    Attributes:
        first, second: as the suite spells them.
        differences: first those over all attacks, then attack by attack; each group in the order of the metrics.
    """

    first: str
    second: str
    differences: tuple[Difference, ...]

    @property
    def attacks(self) -> list[str]:
        """What the differences are about, in their order."""
        return list(dict.fromkeys(one.attack for one in self.differences))

    def json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"first": self.first, "second": self.second, "differences": [_document(one) for one in self.differences]}


def compare(results: Results, first: str, second: str) -> Comparison:
    """Compare two defenses where both have finished cells on victims that implanted.

    Args:
        results: the cells of a suite.
        first: a defense as the suite spells it; ``none`` is the undefended victim.
        second: what it is compared with.

    Raises:
        RequestError: one is not in the suite, or no cells can be compared.
    """
    known = {VICTIM.spelling, *(line.defense for line in results.lines)}
    for name in (first, second):
        if name not in known:
            raise unknown("defense of this suite:", name, known)
    if first == second:
        raise RequestError(f"{first!r} is compared with itself; name two defenses.")
    places = [place for place in results.places if results.state(place) == "implanted"]
    groups = {EVERY: places} | {name: [p for p in places if p.attack == name] for name in _attacks(places)}
    if len(groups) == 2:  # one attack says what all attacks say
        del groups[EVERY]
    differences = tuple(
        Difference(name, metric, measure(results, part, metric=metric, of=first, minus=second))
        for name, part in groups.items()
        for metric in METRICS
    )
    if all(one.measured.estimate is None for one in differences):
        raise RequestError(f"{first!r} and {second!r} have no finished cells in common whose attack implanted.")
    return Comparison(first, second, differences)


def _attacks(places: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(place.attack for place in places))


def _document(one: Difference) -> dict[str, Any]:
    estimate = one.measured.estimate
    return {
        "attack": one.attack,
        "metric": one.metric.name,
        "difference": None if estimate is None else estimate.value,
        "interval": None if estimate is None else [estimate.low, estimate.high],
        "better": one.verdict or None,
        "places": one.measured.places,
        "trainings": one.measured.seeds,
        "labels": list(one.measured.clean),
        "cells": list(one.measured.cells),
    }


def renderables(comparison: Comparison) -> list[RenderableType]:
    """Return the differences for a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("attack", overflow="fold")
    for metric in METRICS:
        table.add_column(metric.heading, justify="right")
    table.add_column("from", overflow="fold")
    for attack in comparison.attacks:
        row = [one for one in comparison.differences if one.attack == attack]
        most = max((one.measured for one in row), key=lambda measured: measured.places)
        behind = f"{counted(most.places, 'place')}, {counted(most.seeds, 'training')}"
        table.add_row(Text(attack), *(_cell(one) for one in row), behind)
    better = ", ".join(f"{metric.heading} {metric.direction}" for metric in METRICS)
    return [
        Text(f"{comparison.first} less {comparison.second}, in percentage points [95 % interval]", "bold"),
        table,
        Text(f"{better}. Green: the first is better, red: the second; not corrected for the number of rows.", "dim"),
    ]


def _cell(one: Difference) -> Any:
    from rich.text import Text

    estimate = one.measured.estimate
    if estimate is None:
        return Text("–")
    style = {"first": "green", "second": "red"}.get(one.verdict, "")
    return Text(f"{estimate.value:+.1f} [{estimate.low:+.1f}, {estimate.high:+.1f}]", style)
