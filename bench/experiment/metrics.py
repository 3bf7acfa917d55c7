"""Every metric, once: what it is called, what it means, how it is computed, and where it shows.

A :class:`Measured` metric gives each example of a test set an outcome; a :class:`Score` compares a cell with its victim
and its clean model. To add one, write its formula and its entry in ``TABLE``: the evaluator, records, export, tables,
boards, claims, the Python API, the site and its scripts read this table and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.contracts import IntArray

Outcomes = NDArray[np.float64]  # [n examples]: 1, 0, or NaN where an example does not count
Percentages = Mapping[str, float]  # by metric; NaN where it is not defined or not known


class Show(Flag):
    """Where a metric shows, beside records, export, the explanation of a number and the pages of records."""

    NOWHERE_ELSE = 0
    CELLS = auto()  # in the table of all cells, with its standard deviation over seeds
    BOARD = auto()  # a column of the leaderboard, as a table and as JSON
    BELOW_BOARD = auto()  # its definition stands below the leaderboard
    SITE_BOARD = auto()  # a column of the site's boards, and an entry of its reading guide
    SITE_CELLS = auto()  # a column of the site's tables of cells
    CLAIMS = auto()  # claims may speak of it


@dataclass(frozen=True, kw_only=True)
class Described:
    """A number that tables and pages show.

    Attributes:
        title: in tables and on pages.
        definition: what it is, as a clause that can follow the title.
        details: what else a reader of the definition has to know, as a clause that can follow it.
        stands_for: the words of an abbreviated title; empty where it is none.
    """

    title: str
    definition: str
    details: str = ""
    stands_for: str = ""

    @property
    def heading(self) -> str:
        """The title with a capital."""
        return self.title[:1].upper() + self.title[1:]

    @property
    def meaning(self) -> str:
        """The definition and its details."""
        return self.definition + (f"; {self.details}" if self.details else "")


@dataclass(frozen=True, kw_only=True)
class Metric(Described):
    """What is said of a metric.

    Attributes:
        name: in records, files and code.
        better: which direction is better; None where neither is.
        unit: ``%`` or ``points``.
        decimals: of a number on a page.
        shows: where.
        core: its columns are there, in their fixed places, even where no cell has a number. Other metrics stand
            after these, and a table without any number of them leaves them out.
        baselines: whether export has it for the clean model and for the undefended victim as well.
        ranks: whether places are ranked by it; exactly one metric is.
    """

    name: str
    better: Literal["higher", "lower"] | None = None
    unit: Literal["%", "points"] = "%"
    decimals: int = 1
    shows: Show = Show.NOWHERE_ELSE
    core: bool = False
    baselines: bool = False
    ranks: bool = False

    @property
    def direction(self) -> str:
        """Which direction is better, in words; empty where neither is."""
        return f"{self.better} is better" if self.better else ""

    @property
    def axis(self) -> str:
        """The title of an axis of a chart."""
        return f"{self.heading} ({self.unit})" + (f", {self.direction}" if self.better else "")

    @property
    def spread(self) -> bool:
        """Whether a number of it is shown with its standard deviation over seeds."""
        return Show.CELLS in self.shows

    def descriptor(self) -> dict[str, Any]:
        """Return what the site's scripts know of the metric, as JSON values."""
        return {
            "name": self.name,
            "title": self.heading,
            "unit": self.unit,
            "better": self.better,
            "decimals": self.decimals,
            "ranks": self.ranks,
            "spread": self.spread,
        }


@dataclass(frozen=True)
class Answers:
    """What a defended model said of one test set of n examples.

    Attributes:
        gold: [n] gold labels.
        labels: [n] predicted labels.
        rejected: bool [n]: the defense refuses to answer.
    """

    gold: NDArray[np.integer[Any]]
    labels: NDArray[np.integer[Any]]
    rejected: NDArray[np.bool_]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Bool [n]: classified as the gold label, and not rejected."""
        found: NDArray[np.bool_] = (self.labels == self.gold) & ~self.rejected
        return found


@dataclass(frozen=True)
class Judged:
    """Everything that a formula may read of a defended model.

    Attributes:
        clean: its answers to the whole test set.
        triggered: its answers to the triggered test set; None for the clean reference, which has no trigger.
        target: the target label, or [n triggered] where each triggered example has its own.
        rejects: whether the defense may reject an example.
        sources: int [n triggered]: the row of the test set that each triggered example was made from; None where that
            is not known.
    """

    clean: Answers
    triggered: Answers | None
    target: int | IntArray
    rejects: bool
    sources: NDArray[np.integer[Any]] | None = None

    @property
    def fooled(self) -> NDArray[np.bool_]:
        """Bool [n triggered]: classified as the target, and not rejected."""
        assert self.triggered is not None
        found: NDArray[np.bool_] = (self.triggered.labels == self.target) & ~self.triggered.rejected
        return found


@dataclass(frozen=True, kw_only=True)
class Measured(Metric):
    """A percentage that is measured from predictions.

    Attributes:
        formula: returns one outcome for each example, or None where the metric is not defined.
    """

    formula: Callable[[Judged], Outcomes | None]


@dataclass(frozen=True, kw_only=True)
class Score(Metric):
    """A number that follows from the percentages of a cell, of its undefended victim and of its clean model.

    Attributes:
        formula: of these three; NaN where a percentage that it needs is NaN.
    """

    formula: Callable[[Percentages, Percentages, Percentages], float]


def _majority(judged: Judged) -> Outcomes:
    values, counts = np.unique(judged.clean.gold, return_counts=True)
    found: Outcomes = (judged.clean.gold == values[counts.argmax()]).astype(np.float64)
    return found


def _acc(judged: Judged) -> Outcomes:
    return judged.clean.right.astype(np.float64)


def _asr(judged: Judged) -> Outcomes | None:
    return None if judged.triggered is None else judged.fooled.astype(np.float64)


def _flip(judged: Judged) -> Outcomes | None:
    if judged.triggered is None or judged.sources is None:
        return None
    counted = judged.clean.right[judged.sources]
    return np.where(counted, judged.fooled, np.nan) if counted.any() else None


def _ra(judged: Judged) -> Outcomes | None:
    return None if judged.triggered is None else judged.triggered.right.astype(np.float64)


def _frr(judged: Judged) -> Outcomes | None:
    return judged.clean.rejected.astype(np.float64) if judged.rejects else None


def _far(judged: Judged) -> Outcomes | None:
    if judged.triggered is None or not judged.rejects:
        return None
    return (~judged.triggered.rejected).astype(np.float64)


def _drop(cell: Percentages, victim: Percentages, clean: Percentages) -> float:
    return victim["acc"] - cell["acc"]


def rating(
    acc: ArrayLike, flip: ArrayLike, *, victim_acc: ArrayLike, victim_flip: ArrayLike, majority: ArrayLike
) -> NDArray[np.float64]:
    """Return the defense effectiveness rating of BackdoorBench (Wu et al., NeurIPS 2022), from flip rates, in percent.

    50 + (max(0, flip rate removed) - max(0, accuracy lost)) / 2, where the accuracy lost is the share of what the
    victim is above the most frequent class. So 50 is what doing nothing gets, and always answering one class gets no
    more. A flip rate that is not defined, as the defended model gets no triggered example right, counts as nothing
    removed.

    Args:
        acc: of the defended model, in percent; any shape, as the others.
        flip: of the defended model.
        victim_acc: of the undefended victim.
        victim_flip: of the undefended victim.
        majority: share of the most frequent class.

    Returns:
        0 to 100; NaN where a number is not known, or the victim is not above the most frequent class.
    """
    cell_acc, left = np.asarray(acc, dtype=np.float64), np.asarray(flip, dtype=np.float64)
    before, backdoor = np.asarray(victim_acc, dtype=np.float64), np.asarray(victim_flip, dtype=np.float64)
    above: NDArray[np.float64] = before - np.asarray(majority, dtype=np.float64)
    lost = 100 * np.maximum(0, before - cell_acc) / np.where(above > 0, above, np.nan)
    removed = np.where(np.isnan(left), 0, np.maximum(0, backdoor - left)) + 0 * backdoor
    found: NDArray[np.float64] = 50 + (removed - np.minimum(100, lost)) / 2
    return found


def _der(cell: Percentages, victim: Percentages, clean: Percentages) -> float:
    beside = {"victim_acc": victim["acc"], "victim_flip": victim["flip"], "majority": victim["majority"]}
    return float(rating(cell["acc"], cell["flip"], **beside))


TABLE: tuple[Measured | Score, ...] = (
    Measured(
        name="acc",
        title="ACC",
        stands_for="clean accuracy",
        definition="clean test examples classified as their gold label",
        details="a rejected one counts as wrong",
        better="higher",
        formula=_acc,
        shows=Show.CELLS | Show.BOARD | Show.SITE_CELLS | Show.CLAIMS,
        core=True,
        baselines=True,
    ),
    Score(
        name="drop",
        title="ACC drop",
        definition="points of clean accuracy (ACC) lost against the undefended victim",
        better="lower",
        unit="points",
        formula=_drop,
        shows=Show.BOARD | Show.SITE_BOARD | Show.SITE_CELLS,
        core=True,
    ),
    Measured(
        name="asr",
        title="ASR",
        stands_for="attack success rate",
        definition="triggered test examples, whose gold label is not the target, classified as the target",
        details="a rejected one is no success",
        better="lower",
        formula=_asr,
        shows=Show.CELLS | Show.BOARD | Show.SITE_BOARD | Show.SITE_CELLS | Show.CLAIMS,
        core=True,
        baselines=True,
    ),
    Measured(
        name="ra",
        title="RA",
        stands_for="recovered accuracy",
        definition="triggered examples classified as their gold label",
        details="a rejected one counts as wrong",
        better="higher",
        formula=_ra,
        shows=Show.BOARD | Show.BELOW_BOARD | Show.SITE_BOARD | Show.SITE_CELLS | Show.CLAIMS,
        core=True,
    ),
    Measured(
        name="frr",
        title="FRR",
        stands_for="false rejection rate",
        definition="clean test examples rejected",
        details="only for defenses that reject",
        better="lower",
        formula=_frr,
        core=True,
    ),
    Measured(
        name="far",
        title="FAR",
        stands_for="false acceptance rate",
        definition="triggered examples not rejected",
        details="only for defenses that reject",
        better="lower",
        formula=_far,
        core=True,
    ),
    Measured(
        name="flip",
        title="flip rate",
        definition="triggered examples classified as the target, of those that are right without the trigger",
        better="lower",
        formula=_flip,
        shows=Show.CELLS | Show.BOARD | Show.BELOW_BOARD | Show.SITE_BOARD | Show.SITE_CELLS | Show.CLAIMS,
        baselines=True,
    ),
    Measured(
        name="majority",
        title="majority class",
        definition="clean test examples of the most frequent gold label: what always answering it gets",
        formula=_majority,
    ),
    Score(
        name="der",
        title="DER",
        stands_for="defense effectiveness rating",
        definition="50 + half of what is removed of the flip rate, less half of the accuracy lost",
        details="the accuracy lost is the share of what the victim is above the most frequent class; doing nothing "
        "gets 50, and so does always answering one class",
        better="higher",
        formula=_der,
        shows=Show.BOARD | Show.BELOW_BOARD | Show.SITE_BOARD | Show.SITE_CELLS,
        ranks=True,
    ),
)
METRICS: Mapping[str, Measured | Score] = {metric.name: metric for metric in TABLE}
MEASURED: Mapping[str, Measured] = {metric.name: metric for metric in TABLE if isinstance(metric, Measured)}
SCORES: Mapping[str, Score] = {metric.name: metric for metric in TABLE if isinstance(metric, Score)}
UNKNOWN: Percentages = dict.fromkeys(MEASURED, math.nan)  # of a cell that is not done
(RANKING,) = (metric for metric in TABLE if metric.ranks)
ACCURACY = MEASURED["acc"]  # what every model has
SUCCESS = MEASURED["asr"]  # what the gate asks of an attack; a model without a trigger has none
BACKDOOR = MEASURED["flip"]  # what is left of a backdoor
GUESS = MEASURED["majority"]  # what needs no model
COST = SCORES["drop"]  # what a defense takes of it


def shown(where: Show, *, known: Iterable[Percentages] | None = None) -> list[Measured | Score]:
    """Return the metrics that show somewhere, in the order of the table.

    Args:
        where: any of these.
        known: what the table would hold; a metric that is not ``core`` is left out where none of them has a number.
    """
    rows = None if known is None else list(known)
    return [
        metric
        for metric in TABLE
        if metric.shows & where
        and (metric.core or rows is None or any(not math.isnan(row[metric.name]) for row in rows))
    ]


def ranking_first(metrics: Iterable[Measured | Score]) -> list[Measured | Score]:
    """Return metrics with the one that places are ranked by in front."""
    return sorted(metrics, key=lambda metric: not metric.ranks)


def outcomes(judged: Judged) -> dict[str, Outcomes | None]:
    """Return the outcome of each example by metric; None where a metric is not defined."""
    return {name: metric.formula(judged) for name, metric in MEASURED.items()}


def percent(found: Outcomes) -> float:
    """Return the share of 1 among the outcomes that count, in percent; no outcome is an error, never 0."""
    counted = np.count_nonzero(~np.isnan(found))
    if not counted:
        raise ValueError("a share of an empty set")
    return 100.0 * float(np.nansum(found)) / counted


def measure(judged: Judged) -> dict[str, float | None]:
    """Return every measured metric in percent; None where it is not defined."""
    return {name: None if found is None else percent(found) for name, found in outcomes(judged).items()}


def compared(cell: Percentages, *, victim: Percentages, clean: Percentages) -> dict[str, float]:
    """Return every metric of a cell, its scores included; NaN where one is not known."""
    return {
        name: cell[name] if isinstance(metric, Measured) else metric.formula(cell, victim, clean)
        for name, metric in METRICS.items()
    }


def rejects(stated: Mapping[str, float | None]) -> bool:
    """Return whether a defense may reject, given the metrics in its record: only then there is a rejection rate."""
    return stated["frr"] is not None
