"""Leaderboards for programs: one JSON value for each board, which ``doorbench purify --defense auto`` reads too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bench.experiment.metrics import Metric, Show, shown
from bench.report.ranking import boards
from bench.report.ranking.leaderboard import Leaderboard, Standing
from bench.report.ranking.results import Results
from bench.report.ranking.statistics import Estimate
from bench.report.rows.row import Row
from bench.report.tables import cells as tables
from bench.suites.suite import Gate

DIGITS = 4


def as_json(rows: Iterable[Row], *, gate: Gate | None = None) -> list[dict[str, Any]]:
    """Return every board that ranks defenses: what it compares, its places, and a row per defense, best rank first.

    Percentages are 0-100; ``rank`` and ``der_interval`` are null for a defense that is not finished everywhere.
    """
    return [board for board in _boards(rows, gate) if board["rows"]]


def _boards(rows: Iterable[Row], gate: Gate | None) -> Iterator[dict[str, Any]]:
    for name, part in boards.split(rows).items():
        for holds, cells in {} if name.threat.judges_models else boards.by_holding(part).items():
            leaderboard = Leaderboard(Results(cells, gate=gate))
            standings = leaderboard.standings()
            known = [standing.means for standing in standings]
            metrics = shown(Show.BOARD, known=known, kind=name.kind)
            yield {
                "board": name.threat.value,
                "models": name.kind.value,
                "labels": name.labels,
                "holds": holds.value,
                "suite": tables.suite_of(leaderboard.results),
                "places": [f"{place.task}:{place.attack}" for place in leaderboard.places],
                "rows": [_row(standing, metrics) for standing in standings],
            }


def _row(standing: Standing, metrics: Sequence[Metric]) -> dict[str, Any]:
    return {
        "defense": standing.line.defense,
        "labels": standing.line.clean_size,
        "rank": None if standing.rank is None else _number(standing.rank.value),
        "rank_interval": _interval(standing.rank),
        **{metric.name: _number(standing.means[metric.name]) for metric in metrics},
        "der_interval": _interval(standing.rating),
        "flip_at_drop": {f"{limit:g}": _number(value) for limit, value in standing.matched.items()},
        "mark": standing.mark,
        "time": _number(standing.time),
        "seeds": standing.seeds,
        "unconverged": standing.unconverged,
        "needs": list(standing.needs),
        **({"external": standing.external} if standing.external else {}),
    }


def _interval(estimate: Estimate | None) -> list[float | None] | None:
    return None if estimate is None else [_number(estimate.low), _number(estimate.high)]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, DIGITS)
