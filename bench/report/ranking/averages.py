"""Means of metrics over seeds, of many cells at once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.experiment.metrics import MEASURED, METRICS, compared
from bench.report.ranking.statistics import FloatArray
from bench.report.rows.row import Row

if TYPE_CHECKING:
    from bench.report.ranking.results import Results, Setting

Means = dict[str, float]  # by metric; NaN where not known
Cells = Mapping[int, Row]  # by seed

_UNKNOWN = (math.nan,) * len(MEASURED)


def means(results: Results, place: Setting, cells: Cells) -> Means:
    """Return the mean of each metric over the seeds that count and are finished; NaN where one is not known."""
    return all_means(results, [(place, cells)])[0]


def all_means(results: Results, wanted: Sequence[tuple[Setting, Cells]]) -> list[Means]:
    """Return as many means as there are cells by seed, as :func:`means` does."""
    by_seeds: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, (place, _) in enumerate(wanted):
        by_seeds[tuple(results.used_seeds(place))].append(number)
    averaged: list[Means] = [{}] * len(wanted)
    for seeds, numbers in by_seeds.items():
        places = {place: i for i, place in enumerate(dict.fromkeys(wanted[number][0] for number in numbers))}
        which = [places[wanted[number][0]] for number in numbers]
        cells = _percentages([wanted[number][1] for number in numbers], seeds)
        victims, floors = (
            {name: values[which] for name, values in each.items()}
            for each in (
                _percentages([results.references(place, "victim") for place in places], seeds),
                _percentages([results.references(place, "floor") for place in places], seeds),
            )
        )
        averages = (mean_of_known(values).tolist() for values in compared(cells, victim=victims, clean=floors).values())
        for number, *values in zip(numbers, *averages, strict=True):
            averaged[number] = dict(zip(METRICS, values, strict=True))
    return averaged


def mean_of_each(each: Sequence[Means]) -> Means:
    """Return the mean of each metric over those that know it."""
    table = np.array([[one[name] for one in each] for name in METRICS]).reshape(len(METRICS), len(each))
    return dict(zip(METRICS, mean_of_known(table).tolist(), strict=True))


def mean_of_known(values: FloatArray) -> FloatArray:
    """Return means over the last axis of [n, values] without NaN; NaN where none is known."""
    known = ~np.isnan(values)
    count, most = known.sum(axis=1), max(values.shape[1], 1)
    averages: FloatArray = values.sum(axis=1) / most
    averages[count == 0] = math.nan
    for row in np.flatnonzero((count > 0) & (count < most)):
        averages[row] = values[row, known[row]].mean()
    return averages


def _percentages(sides: Iterable[Cells], seeds: Sequence[int]) -> dict[str, FloatArray]:
    """Return percentages by metric, [sides, seeds]; NaN where a cell is not done."""
    rows = [[side.get(seed) for seed in seeds] for side in sides]
    table = np.array([[_UNKNOWN if row is None or not row.done else row.measured for row in side]
                     for side in rows]).reshape(len(rows), len(seeds), len(MEASURED))  # fmt: skip
    return dict(zip(MEASURED, np.ascontiguousarray(np.moveaxis(table, -1, 0)), strict=True))
