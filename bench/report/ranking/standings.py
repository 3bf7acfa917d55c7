"""Leaderboards for programs: one JSON value for each board, which ``doorbench purify --defense auto`` reads too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from bench.experiment.metrics import Metric, Show, in_published_order, shown
from bench.report.ranking import boards
from bench.report.ranking.leaderboard import Leaderboard, Standing
from bench.report.ranking.results import Results
from bench.report.rows.row import Row
from bench.report.tables import cells as tables
from bench.suites.suite import Gate

DIGITS = 4


def as_json(rows: Iterable[Row], *, gate: Gate | None = None) -> list[dict[str, Any]]:
    """Return every board that ranks defenses: its suite, its places, and a row for each defense, best mean rank first.

    Percentages are 0-100; ``mean_rank`` and ``interval`` are null for a defense that is not finished everywhere.
    """
    found = []
    for board, part in boards.split(rows).items():
        if board.judges_models:
            continue
        leaderboard = Leaderboard(Results(part, gate=gate))
        standings = leaderboard.standings()
        if not standings:
            continue
        metrics = in_published_order(shown(Show.BOARD, known=[standing.means for standing in standings]))
        found.append(
            {
                "board": board.value,
                "suite": tables.suite_of(leaderboard.results),
                "places": [f"{place.task}:{place.attack}" for place in leaderboard.places],
                "rows": [_row(standing, metrics) for standing in standings],
            }
        )
    return found


def _row(standing: Standing, metrics: Sequence[Metric]) -> dict[str, Any]:
    rank = standing.rank if standing.complete else None
    return {
        "defense": standing.line.defense,
        "clean_size": standing.line.clean_size,
        "mean_rank": None if rank is None else _number(rank.value),
        "interval": None if rank is None else [_number(rank.low), _number(rank.high)],
        **{metric.name: _number(standing.means[metric.name]) for metric in metrics},
        "time": _number(standing.time),
        "seeds": standing.seeds,
        "needs": list(standing.needs),
        **({"external": standing.external} if standing.external else {}),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, DIGITS)
