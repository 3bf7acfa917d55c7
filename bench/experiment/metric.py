"""What a metric is: what is said of it, where it shows, and how its number is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Flag, auto
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.contracts import BOTH, Kind
from bench.experiment.answers import Judged, JudgedText

Outcomes = NDArray[np.float64]  # [n examples]: 1, 0, or NaN where an example does not count
AnyJudged = Judged | JudgedText
Percentages = Mapping[str, float]  # by metric; NaN where it is not defined or not known
AnyPercentages = Mapping[str, float | NDArray[np.float64]]  # of one cell, or of many


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
        unit: ``%`` or ``points``; empty for a number without one.
        decimals: of a number on a page.
        shows: where.
        core: its columns are there, in their fixed places, even where no cell has a number. Other metrics stand
            after these, and a table without any number of them leaves them out.
        baselines: whether export has it for the clean model and for the undefended victim as well.
        ranks: whether places are ranked by it; exactly one metric is.
        kinds: the kinds of model that have it.
        of_text: definition and details where models write; None where they are the same.
        measure: the measure that a suite has to name for it; empty where it follows from the answers, which every
            record has.
    """

    name: str
    better: Literal["higher", "lower"] | None = None
    unit: Literal["%", "points", ""] = "%"
    decimals: int = 1
    shows: Show = Show.NOWHERE_ELSE
    core: bool = False
    baselines: bool = False
    ranks: bool = False
    kinds: frozenset[Kind] = BOTH
    of_text: tuple[str, str] | None = None
    measure: str = ""

    def of(self, kind: Kind) -> Self:
        """Return the metric as it is defined for a kind of model."""
        if kind != Kind.GENERATION or self.of_text is None:
            return self
        definition, details = self.of_text
        return replace(self, definition=definition, details=details)

    @property
    def direction(self) -> str:
        """Which direction is better, in words; empty where neither is."""
        return f"{self.better} is better" if self.better else ""

    @property
    def axis(self) -> str:
        """The title of an axis of a chart."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.heading}{unit}" + (f", {self.direction}" if self.better else "")

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


def percent(outcomes: Outcomes) -> float:
    """Return the share of 1 among the outcomes that count, in percent; no outcome is an error, never 0."""
    counted = np.count_nonzero(~np.isnan(outcomes))
    if not counted:
        raise ValueError("a share of an empty set")
    return 100.0 * float(np.nansum(outcomes)) / counted


def perplexity(losses: Outcomes) -> float:
    """Return exp of the mean over examples of the mean loss of their tokens."""
    return math.exp(float(losses.mean()))


def mean_beside(start: str) -> Callable[[AnyJudged], Outcomes | None]:
    """Return a formula: the mean of the columns of measures whose names begin so; None where there are none."""

    def formula(judged: AnyJudged) -> Outcomes | None:
        columns = [column for name, column in judged.beside.items() if name.startswith(start)]
        return np.mean(columns, axis=0) if columns else None

    return formula


def correlation(products: Outcomes) -> float:
    """Return a hundred times the mean of the products of two standardised columns."""
    return 100.0 * float(products.mean())


@dataclass(frozen=True, kw_only=True)
class Measured(Metric):
    """A number that is measured from answers; a percentage unless its unit says otherwise.

    Attributes:
        formula: returns one outcome for each example, or None where the metric is not defined.
        aggregate: returns the number that stands for all outcomes.
    """

    formula: Callable[[AnyJudged], Outcomes | None]
    aggregate: Callable[[Outcomes], float] = percent


@dataclass(frozen=True, kw_only=True)
class Score(Metric):
    """A number that follows from the percentages of a cell, of its undefended victim and of its clean model.

    Attributes:
        formula: of these three, for one cell or many; NaN where a percentage that it needs is NaN.
    """

    formula: Callable[[AnyPercentages, AnyPercentages, AnyPercentages], ArrayLike]
