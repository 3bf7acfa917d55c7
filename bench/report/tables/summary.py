"""The leaderboard as a table: one line per defense, floors and ceilings on top."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.contracts import needs_in_words
from bench.experiment.metrics import BACKDOOR, Described, Metric, Percentages, Show, ranking_first, shown
from bench.experiment.roles import BASELINES
from bench.report.ranking import facts
from bench.report.ranking.leaderboard import Leaderboard, Standing
from bench.report.ranking.matched import LIMITS
from bench.report.ranking.results import Results
from bench.report.ranking.statistics import Estimate
from bench.report.tables import cells as tables
from bench.report.tables.layout import Cell, Column, Footnotes, Line, Number, Table
from bench.store.words import counted

BEHIND = (facts.LABELS, facts.TIME, facts.PLACES, facts.NEEDS)  # the last columns


def build(results: Results, *, board: str = "", leaderboard: Leaderboard | None = None) -> Table:
    """Return the summary: best rank first, then the defenses that are not finished everywhere.

    Means are taken over seeds, then over the places (model, task, attack) on which a defense is finished. Time is the
    median ratio of seconds to fine-tuning's.
    """
    leaderboard = leaderboard or Leaderboard(results)
    labels, notes = tables.labels(results), Footnotes()
    of = len(leaderboard.places)
    standings = leaderboard.standings()
    baselines = {baseline.label: leaderboard.reference(baseline.role) for baseline in BASELINES}
    known = [*baselines.values(), *(standing.means for standing in standings)]
    metrics = ranking_first(shown(Show.BOARD, known=known, kind=results.kind))
    lines = [Line(label, _reference(metrics, means, of), reference=True) for label, means in baselines.items()]
    ranked = {standing.line for standing in standings}
    lines += [Line(labels[standing.line], _cells(metrics, standing, notes)) for standing in standings]
    lines += [Line(labels[line], _nothing(metrics, of)) for line in results.lines if line not in ranked]
    limits = [f"{BACKDOOR.title} at −{limit:g}" for limit in LIMITS]
    titles = (facts.RANK.title, *(metric.title for metric in metrics), *limits, *(fact.title for fact in BEHIND))
    columns = tuple(Column((), (title,)) for title in titles)
    where = f", {board}" if board else ""
    title = f"{tables.suite_of(results)}{where}: every defense, mean over the places where an attack implanted"
    footer = _footer(results, leaderboard, metrics)
    return Table(title, "defense", columns, tuple(lines), tuple(notes.texts), footer)


def times(ratio: float) -> Cell:
    """Return a ratio of seconds."""
    return _plain(ratio, digits=2 if ratio < 1 else 1 if ratio < 10 else 0, unit="×")


def _over(metrics: Sequence[Metric], means: Percentages) -> tuple[Cell, ...]:
    return tuple(_plain(means[metric.name], digits=metric.decimals) for metric in metrics)


def _plain(value: float, *, digits: int = 1, unit: str = "") -> Cell:
    return Cell((None if math.isnan(value) else Number(value, digits=digits, unit=unit),))


def _with_interval(estimate: Estimate | None, digits: int = 1) -> Number | None:
    if estimate is None:
        return None
    return Number(estimate.value, digits=digits, interval=(estimate.low, estimate.high))


def _reference(metrics: Sequence[Metric], means: Percentages, of: int) -> tuple[Cell, ...]:
    limits = [Cell((None,))] * len(LIMITS)
    over = _over(metrics, means)
    return (Cell((None,)), *over, *limits, Cell(words="0"), Cell((None,)), Cell(words=f"{of} of {of}"), Cell(words="–"))


def _nothing(metrics: Sequence[Metric], of: int) -> tuple[Cell, ...]:
    empty = [Cell((None,))] * (1 + len(metrics) + len(LIMITS) + 2)  # the rank, ..., labels and time
    return (*empty, Cell(words=f"0 of {of}"), Cell(words="–"))


def _cells(metrics: Sequence[Metric], standing: Standing, notes: Footnotes) -> tuple[Cell, ...]:
    partial: tuple[int, ...] = (
        () if standing.complete else (notes.add("fewer places: not to be compared with the other lines"),)
    )
    if standing.unconverged:
        note = f"stopped at its limit of steps before its loss was low enough: {counted(standing.unconverged, 'cell')}"
        partial += (notes.add(note),)
    over = [
        Cell((_with_interval(standing.rating),)) if metric.ranks and standing.rating is not None else cell
        for metric, cell in zip(metrics, _over(metrics, standing.means), strict=True)
    ]
    return (
        Cell((_with_interval(standing.rank, digits=0),), mark=standing.mark),
        *over,
        *(_plain(standing.matched[limit]) for limit in LIMITS),
        Cell(words=str(standing.line.clean_size)),
        times(standing.time),
        Cell(words=f"{len(standing.places)} of {standing.of}", notes=partial),
        Cell(words=needs_in_words(standing.needs)),
    )


def _footer(results: Results, leaderboard: Leaderboard, metrics: Sequence[Metric]) -> tuple[str, ...]:
    explained: list[Described] = [metric for metric in metrics if Show.BELOW_BOARD in metric.shows]
    explained += [facts.MATCHED, facts.LABELS, facts.TIME]
    return (
        f"Means over {leaderboard.span()}. Percent and points.",
        f"Rank: {facts.RANK.meaning}.",
        " ".join(f"{column.heading}: {column.meaning}." for column in explained),
        tables.what_was_run(results),
    )
