"""The leaderboard as a table: one line a defense, floors and ceilings on top."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.contracts import needs_in_words
from bench.experiment.metrics import Described, Metric, Percentages, Show, shown
from bench.experiment.roles import BASELINES
from bench.report.ranking import facts
from bench.report.ranking.leaderboard import Leaderboard, Standing
from bench.report.ranking.results import Results
from bench.report.ranking.statistics import Estimate
from bench.report.tables import cells as tables
from bench.report.tables.layout import Cell, Column, Footnotes, Line, Number, Table

BEHIND = (facts.CLEAN, facts.TIME, facts.PLACES, facts.NEEDS)  # the columns after the metrics


def build(results: Results, *, board: str = "", leaderboard: Leaderboard | None = None) -> Table:
    """Return the summary: best mean rank first, then the defenses that are not finished everywhere.

    Means are taken over seeds, then over the places (model, task, attack) on which a defense is finished. Mean rank has
    the 95 % interval of a bootstrap over tasks, attacks, seeds and test examples. Time is the median ratio of seconds
    to fine-tuning's.
    """
    leaderboard = leaderboard or Leaderboard(results)
    labels, notes = tables.labels(results), Footnotes()
    of = len(leaderboard.places)
    standings = leaderboard.standings()
    baselines = {baseline.label: leaderboard.reference(baseline.role) for baseline in BASELINES}
    metrics = shown(Show.BOARD, known=[*baselines.values(), *(standing.means for standing in standings)])
    lines = [Line(label, _reference(metrics, means, of), reference=True) for label, means in baselines.items()]
    ranked = {standing.line for standing in standings}
    lines += [Line(labels[standing.line], _cells(metrics, standing, notes)) for standing in standings]
    lines += [Line(labels[line], _nothing(metrics, of)) for line in results.lines if line not in ranked]
    titles = (facts.RANK.title, *(metric.title for metric in metrics), *(fact.title for fact in BEHIND))
    columns = tuple(Column((), (title,)) for title in titles)
    where = f", {board}" if board else ""
    title = f"{tables.suite_of(results)}{where}: every defense, mean over the places where an attack implanted"
    footer = _footer(results, leaderboard, metrics)
    return Table(title, "defense", columns, tuple(lines), tuple(notes.texts), footer)


def clean_examples(standing: Standing) -> str:
    """Return how many clean examples it had: to tune on + to choose on."""
    extra = f" + {standing.selection_size}" if standing.selection_size else ""
    return f"{standing.line.clean_size}{extra}"


def times(ratio: float) -> Cell:
    """Return a ratio of seconds."""
    return _plain(ratio, digits=2 if ratio < 1 else 1 if ratio < 10 else 0, unit="×")


def _over(metrics: Sequence[Metric], means: Percentages) -> tuple[Cell, ...]:
    return tuple(_plain(means[metric.name], digits=metric.decimals) for metric in metrics)


def _plain(value: float, *, digits: int = 1, unit: str = "") -> Cell:
    return Cell((None if math.isnan(value) else Number(value, digits=digits, unit=unit),))


def _rank(rank: Estimate | None) -> Number | None:
    return None if rank is None else Number(rank.value, interval=(rank.low, rank.high))


def _reference(metrics: Sequence[Metric], means: Percentages, of: int) -> tuple[Cell, ...]:
    over = _over(metrics, means)
    return (Cell((None,)), *over, Cell(words="0"), Cell((None,)), Cell(words=f"{of} of {of}"), Cell(words="–"))


def _nothing(metrics: Sequence[Metric], of: int) -> tuple[Cell, ...]:
    empty = [Cell((None,))] * (1 + len(metrics) + 2)  # the rank, the metrics, clean examples and time
    return (*empty, Cell(words=f"0 of {of}"), Cell(words="–"))


def _cells(metrics: Sequence[Metric], standing: Standing, notes: Footnotes) -> tuple[Cell, ...]:
    partial = () if standing.complete else (notes.add("fewer places: not to be compared with the other lines"),)
    return (
        Cell((_rank(standing.rank),), mark=standing.mark),
        *_over(metrics, standing.means),
        Cell(words=clean_examples(standing)),
        times(standing.time),
        Cell(words=f"{len(standing.places)} of {standing.of}", notes=partial),
        Cell(words=needs_in_words(standing.needs)),
    )


def _footer(results: Results, leaderboard: Leaderboard, metrics: Sequence[Metric]) -> tuple[str, ...]:
    explained: list[Described] = [metric for metric in metrics if Show.BELOW_BOARD in metric.shows]
    return (
        f"Means over {leaderboard.span()}. Percent and points.",
        f"{facts.RANK.definition[0].upper()}{facts.RANK.definition[1:]}.",
        " ".join(f"{column.heading}: {column.definition}." for column in [*explained, facts.CLEAN, facts.TIME]),
        tables.footer(results)[0],
    )
