"""One line a defense: what it costs and what it leaves, over all places where an attack implanted."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bench.report import tables
from bench.report.layout import Cell, Column, Footnotes, Number, Table
from bench.report.layout import Line as TableLine
from bench.report.results import MAX_DROP, Line, Place, Results
from bench.report.rows import Row
from bench.report.statistics import Estimate, mean_rank

COLUMNS = ("mean rank", "ACC", "ACC drop", "ASR", "RA", "√(ACC·(100−ASR))", "clean examples", "time", "places")
YARDSTICK = "fine-tuning"  # whose seconds are 1
Means = dict[str, float]


def build(results: Results) -> Table:
    """Return the summary: best mean rank first, then the defenses that are not finished everywhere.

    Means are taken over seeds, then over the places (model, task, attack) on which a defense is finished. Mean rank has
    the 95 % interval of a bootstrap over seeds and test examples. Time is the median ratio of seconds to fine-tuning's.
    """
    places = [place for place in results.places if results.state(place) == "implanted"]
    standing = dict(zip(results.lines, _ranks(results), strict=True))
    labels = tables.labels(results)
    lines = [
        TableLine(label, _reference(results, places, role), reference=True) for label, role in tables.REFERENCES.items()
    ]
    notes = Footnotes()
    covered = {line: [place for place in places if line in results.complete(place)] for line in results.lines}
    for line in sorted(results.lines, key=lambda line: (len(covered[line]) < len(places), _order(standing[line]))):
        lines.append(TableLine(labels[line], _cells(results, covered[line], line, standing[line], len(places), notes)))
    columns = tuple(Column((), (name,)) for name in COLUMNS)
    title = f"{tables.suite_of(results)}: every defense, mean over the places where an attack implanted"
    return Table(title, "defense", columns, tuple(lines), tuple(notes.texts), _footer(results, places))


def _order(rank: Estimate | None) -> float:
    return math.inf if rank is None else rank.value


def _ranks(results: Results) -> list[Estimate | None]:
    scores, sampled, seeds = results.rank_draws()
    return mean_rank(scores, sampled, seeds=seeds) if scores else [None] * len(results.lines)


def means(results: Results, place: Place, cells: Mapping[int, Row]) -> Means:
    """Return the mean of each metric over the seeds that count, with the ACC drop and the combined score."""
    victims = results.references(place, "victim")
    found: dict[str, list[float]] = {name: [] for name in ("acc", "drop", "asr", "ra", "score")}
    for seed in results.used_seeds(place):
        acc, asr, ra = (cells[seed].metric(name) for name in ("acc", "asr", "ra"))
        before = victims[seed].metric("acc") if seed in victims else None
        if acc is None or asr is None or ra is None or before is None:
            continue
        for name, value in zip(found, (acc, before - acc, asr, ra, math.sqrt(acc * (100 - asr))), strict=True):
            found[name].append(value)
    return {name: float(np.mean(values)) if values else math.nan for name, values in found.items()}


def _over(each: list[Means]) -> tuple[Cell, ...]:
    return tuple(_plain([mean[name] for mean in each]) for name in ("acc", "drop", "asr", "ra", "score"))


def _plain(values: list[float], *, digits: int = 1, unit: str = "") -> Cell:
    known = [value for value in values if not math.isnan(value)]
    return Cell((Number(float(np.mean(known)), digits=digits, unit=unit) if known else None,))


def _reference(results: Results, places: list[Place], role: str) -> tuple[Cell, ...]:
    each = []
    for place in places:
        cells = results.references(place, "floor" if role == "floor" else "victim")
        if all(seed in cells for seed in results.used_seeds(place)):
            each.append(means(results, place, cells))
    return (Cell((None,)), *_over(each), Cell(words="0"), Cell((None,)), Cell(words=f"{len(each)} of {len(places)}"))


def _cells(
    results: Results, there: list[Place], line: Line, rank: Estimate | None, places: int, notes: Footnotes
) -> tuple[Cell, ...]:
    number = None if rank is None else Number(rank.value, interval=(rank.low, rank.high))
    times = [ratio for place in there for ratio in _times(results, place, line)]
    ratio = float(np.median(times)) if times else math.nan
    partial = () if len(there) == places else (notes.add("fewer places: not to be compared with the other lines"),)
    return (
        Cell((number,)),
        *_over([means(results, place, results.cells(place, line)) for place in there]),
        Cell(words=_examples(results, there, line)),
        _plain([ratio], digits=2 if ratio < 1 else 1 if ratio < 10 else 0, unit="×"),
        Cell(words=f"{len(there)} of {places}", notes=partial),
    )


def _examples(results: Results, places: list[Place], line: Line) -> str:
    """Return how many clean examples it had: to tune on + to choose on."""
    records = (row.record for place in places for row in results.cells(place, line).values())
    chosen = {int(record["cell"].get("selection_size") or 0) for record in records if record is not None} - {0}
    extra = f" + {max(chosen)}" if chosen and line.clean_size else ""
    return f"{line.clean_size}{extra}"


def _times(results: Results, place: Place, line: Line) -> list[float]:
    """Return the seconds of a defense relative to fine-tuning of the same victim."""
    yardsticks = [other for other in results.lines if other.defense == YARDSTICK]
    same = [other for other in yardsticks if other.clean_size == line.clean_size] or yardsticks
    if not same:
        return []
    found = []
    for seed, row in results.cells(place, line).items():
        reference = results.cells(place, same[0]).get(seed)
        ours, theirs = (_seconds(cell) for cell in (row, reference))
        if ours is not None and theirs:
            found.append(ours / theirs)
    return found


def _seconds(row: Row | None) -> float | None:
    if row is None or row.record is None or not row.done:
        return None
    seconds = row.record["seconds"].get("defense")
    return None if seconds is None else float(seconds)


def _footer(results: Results, places: list[Place]) -> tuple[str, ...]:
    return (
        f"Means over {len(places)} places (model, task, attack) where the attack implanted; percent and points.",
        f"Rank 1 is the lowest ASR; defenses that lose more than {MAX_DROP:g} points of ACC share the last rank; "
        "in brackets the 95 % interval over seeds and test examples.",
        "RA: triggered examples classified as their gold label. Clean examples: to tune on + to choose on. "
        f"Time: median of seconds relative to {YARDSTICK}.",
        tables.footer(results)[0],
    )
