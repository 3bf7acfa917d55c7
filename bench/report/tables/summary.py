"""The leaderboard as a table: one line a defense, floors and ceilings on top."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.report.ranking.leaderboard import YARDSTICK, Leaderboard, Means, Standing
from bench.report.ranking.results import MAX_DROP, Results
from bench.report.ranking.statistics import Estimate
from bench.report.tables import cells as tables
from bench.report.tables.layout import Cell, Column, Footnotes, Line, Number, Table

COLUMNS = (
    "mean rank", "ACC", "ACC drop", "ASR", "RA", "effectiveness", "√(ACC·(100−ASR))", "clean examples", "time",
    "places", "needs",
)  # fmt: skip
NEEDS = {
    "clean": "clean data",
    "pretrained": "pre-trained weights",
    "training_set": "training set",
    "other_models": "other models",
    "unlabelled": "plain text",
    "test_stream": "test stream",
    "oracle": "oracle",
}
SCORES = ("acc", "drop", "asr", "ra", "effectiveness", "score")


def build(results: Results, *, board: str = "", leaderboard: Leaderboard | None = None) -> Table:
    """Return the summary: best mean rank first, then the defenses that are not finished everywhere.

    Means are taken over seeds, then over the places (model, task, attack) on which a defense is finished. Mean rank has
    the 95 % interval of a bootstrap over tasks, attacks, seeds and test examples. Time is the median ratio of seconds
    to fine-tuning's.
    """
    leaderboard = leaderboard or Leaderboard(results)
    labels, notes = tables.labels(results), Footnotes()
    of = len(leaderboard.places)
    lines = [
        Line(label, _reference(leaderboard.reference(role), of), reference=True)
        for label, role in tables.REFERENCES.items()
    ]
    standings = leaderboard.standings()
    there = {standing.line for standing in standings}
    lines += [Line(labels[standing.line], _cells(standing, notes)) for standing in standings]
    lines += [Line(labels[line], _nothing(of)) for line in results.lines if line not in there]
    columns = tuple(Column((), (name,)) for name in COLUMNS)
    where = f", {board}" if board else ""
    title = f"{tables.suite_of(results)}{where}: every defense, mean over the places where an attack implanted"
    return Table(title, "defense", columns, tuple(lines), tuple(notes.texts), _footer(results, leaderboard))


def needs_in_words(needs: Sequence[str]) -> str:
    """Return what a defense touches, besides the model that it is to defend."""
    return (
        ", ".join(NEEDS.get(need, need) for need in NEEDS | dict.fromkeys(needs) if need in needs) or "only the model"
    )


def clean_examples(standing: Standing) -> str:
    """Return how many clean examples it had: to tune on + to choose on."""
    extra = f" + {standing.selection_size}" if standing.selection_size else ""
    return f"{standing.line.clean_size}{extra}"


def times(ratio: float) -> Cell:
    """Return a ratio of seconds."""
    return _plain(ratio, digits=2 if ratio < 1 else 1 if ratio < 10 else 0, unit="×")


def _over(means: Means) -> tuple[Cell, ...]:
    return tuple(_plain(means[name]) for name in SCORES)


def _plain(value: float, *, digits: int = 1, unit: str = "") -> Cell:
    return Cell((None if math.isnan(value) else Number(value, digits=digits, unit=unit),))


def _rank(rank: Estimate | None) -> Number | None:
    return None if rank is None else Number(rank.value, interval=(rank.low, rank.high))


def _reference(means: Means, of: int) -> tuple[Cell, ...]:
    return (Cell((None,)), *_over(means), Cell(words="0"), Cell((None,)), Cell(words=f"{of} of {of}"), Cell(words="–"))


def _nothing(of: int) -> tuple[Cell, ...]:
    return (*(Cell((None,)) for _ in COLUMNS[:-2]), Cell(words=f"0 of {of}"), Cell(words="–"))


def _cells(standing: Standing, notes: Footnotes) -> tuple[Cell, ...]:
    partial = () if standing.complete else (notes.add("fewer places: not to be compared with the other lines"),)
    return (
        Cell((_rank(standing.rank),), mark=standing.mark),
        *_over(standing.means),
        Cell(words=clean_examples(standing)),
        times(standing.time),
        Cell(words=f"{len(standing.places)} of {standing.of}", notes=partial),
        Cell(words=needs_in_words(standing.needs)),
    )


def _footer(results: Results, leaderboard: Leaderboard) -> tuple[str, ...]:
    return (
        f"Means over {leaderboard.span()}. Percent and points.",
        f"Rank 1 is the lowest ASR; defenses that lose more than {MAX_DROP:g} points of ACC share the last rank; "
        "in brackets the 95 % interval over tasks, attacks, seeds and test examples.",
        "RA: triggered examples classified as their gold label. Effectiveness: share of the possible reduction of ASR, "
        "from the victim's to the clean model's. Clean examples: to tune on + to choose on. "
        f"Time: median of seconds relative to {YARDSTICK}.",
        tables.footer(results)[0],
    )
