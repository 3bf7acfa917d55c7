"""Cells that are points of a curve: a fixed reserve ratio, one of several clean-data sizes, or so many steps."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.contracts import Needs
from bench.experiment.metrics import ACCURACY, BACKDOOR

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from bench.report.rows.row import Row

LEAST_POINTS = 3  # fewer values are rows of a table, not a curve
_STEPS = re.compile(r"(steps|until_loss)=[^,()]*(, )?")
_RATIO = re.compile(r"reserve_ratio=[^,()]*(, )?")


def curve_name(defense: str) -> str:
    """Return a defense without its reserve ratio: ``fine-mixing(reserve_ratio=0.3)`` gives ``fine-mixing``."""
    return _without(_RATIO, defense)


def _without(fields: re.Pattern[str], defense: str) -> str:
    return fields.sub("", defense).replace(", )", ")").replace("()", "")


def fixed_ratio(table: DataFrame) -> Series[float]:
    """Return the reserve ratio that the suite fixed for each cell; NaN where it is searched or there is none."""
    return _field(table, "reserve_ratio")


def _field(table: DataFrame, field: str) -> Series[float]:
    """Return a field of the defense of each cell, or of the first part of it that has one; NaN where none has."""
    import pandas as pd

    values = pd.Series(float("nan"), index=table.index, dtype="float64")
    for name in table.columns:
        if name.startswith("defense.") and name.rpartition(".")[2] == field:
            values = values.fillna(pd.to_numeric(table[name], errors="coerce").astype("float64"))
    return values


def _long_enough(points: DataFrame, curve: list[str], x: str) -> DataFrame:
    """Return the points of curves that have enough of them."""
    values = points.groupby(curve)[x].transform("nunique") if len(points) else points[x]
    return points[values >= LEAST_POINTS]


def ratio_points(table: DataFrame) -> DataFrame:
    """Return the cells of reserve-ratio curves, with ``curve`` and ``ratio``.

    A curve is of one suite: a fixed ratio beside other defenses stays a line where another suite has all ratios.
    """
    points = table.assign(ratio=fixed_ratio(table), curve=table["defense"].map(curve_name))
    return _long_enough(points[points["ratio"].notna()], ["suite", "curve"], "ratio")


def ratio_cells(rows: Iterable[Row]) -> frozenset[str]:
    """Return the keys of the cells of reserve-ratio curves, as :func:`ratio_points` has them, without a frame."""
    ratios: dict[tuple[str, int], tuple[str, float | None]] = {}
    curves: dict[tuple[str, str], set[float]] = defaultdict(set)
    points: list[tuple[tuple[str, str], str]] = []
    for row in rows:
        which = row.defense, id(row.defense_parameters)
        if which not in ratios:
            ratios[which] = curve_name(row.defense), _ratio(row.defense_parameters)
        curve, ratio = ratios[which]
        if ratio is not None:
            curves[row.suite, curve].add(ratio)
            points.append(((row.suite, curve), row.cell_key))
    return frozenset(key for curve, key in points if len(curves[curve]) >= LEAST_POINTS)


def _ratio(parameters: Mapping[str, Any]) -> float | None:
    """Return the reserve ratio among the fields of a defense."""
    for name in sorted(parameters):
        if name.rpartition(".")[2] == "reserve_ratio" and parameters[name] is not None:
            try:
                return float(parameters[name])
            except (ValueError, TypeError):  # that of the best on the test sets, or in a file that no suite wrote
                continue
    return None


def best_on_test(points: Iterable[Row], victims: Iterable[Row], *, most_drop: float) -> Iterator[Row]:
    """Yield for each victim and curve of reserve ratios the point that a rule with the test sets would choose.

    It is the one with the lowest flip rate among those that lose at most ``most_drop`` points of test ACC against the
    victim, or with the highest ACC where all lose more. It is marked as an oracle: a bound for rules that keep to that
    drop.
    """
    before = {row.victim_key: row.metric(ACCURACY.name) for row in victims if row.done}
    curves: dict[tuple[str, str, str, int], list[Row]] = defaultdict(list)  # one victim may be in several tasks
    for row in points:
        if row.predicts and before.get(row.victim_key) is not None:
            curves[row.task, row.victim_key, curve_name(row.defense), row.clean_size].append(row)
    for (_, victim, curve, _), curve_points in curves.items():
        acc = {row.cell_key: row.metric(ACCURACY.name) or 0.0 for row in curve_points}
        least = (before[victim] or 0.0) - most_drop
        kept = [row for row in curve_points if acc[row.cell_key] >= least]
        if kept:
            best = min(kept, key=lambda row: (row.metric(BACKDOOR.name) or 0.0, -acc[row.cell_key]))
        else:
            best = max(curve_points, key=lambda row: acc[row.cell_key])
        yield replace(
            best,
            defense=f"{curve} (ratio best on test)",
            defense_parameters={**best.defense_parameters, "reserve_ratio": "best on test"},
            needs=(*best.needs, Needs.ORACLE.value),
        )


def size_points(table: DataFrame) -> DataFrame:
    """Return the cells of clean-size curves, with ``curve`` and ``size``; reserve-ratio curves are left out."""
    points = table.drop(index=ratio_points(table).index)
    points = points[points["clean_size"] > 0]
    points = points.assign(size=points["clean_size"].astype("float64"), curve=points["defense"])
    return _long_enough(points, ["curve"], "size")


def step_points(table: DataFrame) -> DataFrame:
    """Return the cells of curves over the steps of training on clean labels, with ``curve`` and ``steps``.

    Only of those that train all of their steps, whatever the loss is: ``until_loss=0``.
    """
    names = table["defense"].map(lambda name: _without(_STEPS, name))
    points = table.assign(steps=_field(table, "steps"), curve=names)
    return _long_enough(points[points["steps"].notna() & (_field(table, "until_loss") == 0)], ["curve"], "steps")
