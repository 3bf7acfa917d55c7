"""One line a defense: what it costs, what it leaves, and how sure its rank is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bench.experiment.metrics import METRICS, RANKING, UNKNOWN, Percentages, compared
from bench.experiment.roles import Role
from bench.report.ranking import comparable
from bench.report.ranking.facts import YARDSTICK
from bench.report.ranking.results import LEAST_GAIN, Competitor, Mark, Results, Setting
from bench.report.ranking.statistics import (
    Estimate,
    FloatArray,
    critical_difference,
    crossed_weights,
    holm,
    mean_rank_draws,
    rank_estimate,
    ranks_of_present,
)
from bench.report.rows.row import Row

Means = dict[str, float]  # by metric; NaN where not known


def means(results: Results, place: Setting, cells: Mapping[int, Row]) -> Means:
    """Return the mean of each metric over the seeds that count and are finished; NaN where one is not known."""
    victims, floors = results.references(place, "victim"), results.references(place, "floor")
    each = [
        compared(_percentages(cells, seed), victim=_percentages(victims, seed), clean=_percentages(floors, seed))
        for seed in results.used_seeds(place)
    ]
    return _mean_of_each(each)


def _percentages(cells: Mapping[int, Row], seed: int) -> Percentages:
    row = cells.get(seed)
    return row.percentages if row is not None and row.done else UNKNOWN


def _mean_of_each(each: Sequence[Percentages]) -> Means:
    return {name: _mean(one[name] for one in each) for name in METRICS}


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


@dataclass(frozen=True)
class Standing:
    """A line of the leaderboard.

    Attributes:
        line: the defense and its clean-data size.
        rank: mean rank; None where it is not ranked.
        means: of each score, over ``places``; NaN where not known.
        places: where it is finished and the attack implanted.
        of: how many places there are.
        mark: ``best`` mean rank, or ``close``: not significantly above it (paired bootstrap, Holm-corrected, 5 %);
            neither where it takes less than ``LEAST_GAIN`` points from the victims' ASR.
        selection_size: clean examples it may choose hyper-parameters on.
        time: median ratio of its seconds to those of fine-tuning; NaN where that is not known.
        needs: what it touches.
        oracle: whether it is told the trigger and the target label.
        seeds: least number of seeds behind a place.
        external: the package it comes from; empty for one that ships with the project.
    """

    line: Competitor
    rank: Estimate | None
    means: Means
    places: tuple[Setting, ...]
    of: int
    mark: Mark
    selection_size: int
    time: float
    needs: tuple[str, ...]
    oracle: bool
    seeds: int
    external: str = ""

    @property
    def complete(self) -> bool:
        """Whether it is finished everywhere: only then can it be compared with the others."""
        return self.of > 0 and len(self.places) == self.of


class Leaderboard:
    """The ranking of one board, or of a part of it.

    Attributes:
        results: the cells of the board.
        implanted: where an attack implanted, in the order of the suite.
        places: those of them that count, see :meth:`counting`.
    """

    def __init__(self, results: Results, *, seed: int = 0) -> None:
        self.results = results
        self.implanted = [place for place in results.places if results.state(place) == "implanted"]
        self.places = self.counting()
        self._seed = seed

    def counting(self, places: Iterable[Setting] | None = None) -> list[Setting]:
        """Return where an attack implanted and enough of the same defenses are compared; among all places by default.

        See :func:`bench.report.ranking.comparable.comparable_places`.
        """
        wanted = self.implanted if places is None else [place for place in self.implanted if place in set(places)]
        return comparable.comparable_places({place: self.results.ranked(place) for place in wanted})

    def span(self) -> str:
        """Say in words which places the means are over."""
        count, rest = len(self.places), len(self.implanted) - len(self.places)
        told = f"{count} place{'s' * (count != 1)} (model, task, attack) where the attack implanted"
        if not rest:
            return told
        are = "more is" if rest == 1 else "more are"
        return f"{told}; {rest} {are} left out, where too few of the same defenses are finished"

    @cached_property
    def _ranks(self) -> dict[Setting, tuple[FloatArray, NDArray[np.float32]]]:
        """For each ranked place the ranks [lines] and their draws [lines, draws]."""
        found = {}
        for place, (scores, sampled) in zip(
            self.results.ranked_places, self.results.score_draws(seed=self._seed), strict=True
        ):
            drawn = ranks_of_present(sampled).astype(np.float32, copy=False)
            found[place] = (ranks_of_present(scores[:, None])[:, 0], drawn)
        return found

    @cached_property
    def means(self) -> dict[tuple[Setting, Competitor], Means]:
        """The mean scores of every finished line at every place where an attack implanted."""
        return {
            (place, line): means(self.results, place, self.results.cells(place, line))
            for place in self.implanted
            for line in self.results.complete(place)
        }

    def rank_at(self, place: Setting, line: Competitor) -> float:
        """Return the rank of a line at a place; NaN where it has none."""
        if place not in self._ranks:
            return math.nan
        return float(self._ranks[place][0][self.results.lines.index(line)])

    def standings(self, places: Sequence[Setting] | None = None) -> list[Standing]:
        """Return every line that the suite has at those places that count: complete first, best mean rank first."""
        wanted = self.places if places is None else self.counting(places)
        estimates, draws = self._estimates(wanted)
        lines = [line for line in self.results.lines if any(self.results.cells(place, line) for place in wanted)]
        there = {line: tuple(place for place in wanted if (place, line) in self.means) for line in lines}
        least = self.reference("victim", wanted)[RANKING.name] - LEAST_GAIN
        full = [line for line in lines if len(there[line]) == len(wanted) and line in estimates]
        full = [line for line in full if _mean(self.means[place, line][RANKING.name] for place in wanted) <= least]
        marks = _marks(full, estimates, draws)
        found = [self._standing(line, there[line], len(wanted), estimates.get(line), marks) for line in lines]
        return sorted(found, key=_order)

    def reference(self, role: Role, places: Sequence[Setting] | None = None) -> Means:
        """Return the means of the clean model or of the undefended victims over places."""
        wanted = self.places if places is None else self.counting(places)
        return _mean_of_each([means(self.results, place, self.results.references(place, role)) for place in wanted])

    def critical_difference(self, standings: Sequence[Standing]) -> float | None:
        """Return Nemenyi's critical difference of the complete lines; None for fewer than two lines or places."""
        ranked = [standing for standing in standings if standing.complete and standing.rank is not None]
        if len(ranked) < 2 or ranked[0].of < 2:
            return None
        return critical_difference(len(ranked), ranked[0].of)

    def _estimates(self, places: Sequence[Setting]) -> tuple[dict[Competitor, Estimate], dict[Competitor, FloatArray]]:
        ranked = [place for place in places if place in self._ranks]
        if not ranked:
            return {}, {}
        draws = [self._ranks[place][1] for place in ranked]
        rng = np.random.default_rng(self._seed + 1)
        factors: list[list[object]] = [
            [(place.model, place.task) for place in ranked],
            [(place.attack, place.target) for place in ranked],
        ]
        drawn = mean_rank_draws(draws, crossed_weights(factors, rng=rng, draws=draws[0].shape[1]))
        points = np.stack([self._ranks[place][0] for place in ranked])
        seeds = min(len(self.results.used_seeds(place)) for place in ranked)
        found = {}
        for i, line in enumerate(self.results.lines):
            estimate = rank_estimate(points[:, i], drawn[i], seeds=seeds)
            if estimate is not None:
                found[line] = estimate
        return found, {line: drawn[i] for i, line in enumerate(self.results.lines)}

    def _standing(
        self,
        line: Competitor,
        there: tuple[Setting, ...],
        of: int,
        rank: Estimate | None,
        marks: Mapping[Competitor, Mark],
    ) -> Standing:
        rows = [row for place in there for row in self.results.cells(place, line).values()]
        known = rows or [row for (place, other), cells in self.results.items() if other == line
                         for row in cells.values()]  # fmt: skip
        chosen = [int(row.record["cell"].get("selection_size") or 0) for row in known if row.record is not None]
        return Standing(
            line=line,
            rank=rank,
            means=_mean_of_each([self.means[place, line] for place in there]),
            places=there,
            of=of,
            mark=marks.get(line, ""),
            selection_size=max(chosen, default=0) if line.clean_size else 0,
            time=self._time(line, there),
            needs=known[0].needs,
            oracle=line.defense in self.results.oracles,
            seeds=min((len(self.results.used_seeds(place)) for place in there), default=0),
            external=self.results.external.get(line.defense, ""),
        )

    def _time(self, line: Competitor, places: Sequence[Setting]) -> float:
        yardsticks = [other for other in self.results.lines if other.defense == YARDSTICK]
        same = [other for other in yardsticks if other.clean_size == line.clean_size] or yardsticks
        found = []
        for place in places if same else ():
            references = self.results.cells(place, same[0])
            for seed, row in self.results.cells(place, line).items():
                reference = references.get(seed)
                ours, theirs = row.seconds("defense"), reference.seconds("defense") if reference else None
                if ours is not None and theirs:
                    found.append(ours / theirs)
        return float(np.median(found)) if found else math.nan


def _order(standing: Standing) -> tuple[bool, float, float]:
    rank = math.inf if standing.rank is None else standing.rank.value
    left = standing.means[RANKING.name]
    return not standing.complete, rank, math.inf if math.isnan(left) else left


def _marks(
    lines: Sequence[Competitor], estimates: Mapping[Competitor, Estimate], draws: Mapping[Competitor, FloatArray]
) -> dict[Competitor, Mark]:
    """Return the best of the complete lines, and those whose mean rank is not significantly above its."""
    if not lines:
        return {}
    best = min(lines, key=lambda line: estimates[line].value)
    others = [line for line in lines if line != best]
    p_values = []
    for line in others:
        gaps = draws[line] - draws[best]
        gaps = gaps[~np.isnan(gaps)]
        p_values.append((1 + int((gaps <= 0).sum())) / (1 + len(gaps)))
    found: dict[Competitor, Mark] = {best: "best"}
    return found | {line: "close" for line, p in zip(others, holm(p_values), strict=True) if p >= 0.05}
