"""One line per defense: what it costs, what it leaves, and how sure its rank is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bench.experiment.metrics import RANKING
from bench.experiment.roles import Role
from bench.report.ranking import comparable, matched, ratings
from bench.report.ranking.averages import Means, all_means, mean_of_each
from bench.report.ranking.facts import YARDSTICK
from bench.report.ranking.results import Competitor, Mark, Results, Setting
from bench.report.ranking.statistics import (
    LEVEL,
    Estimate,
    FloatArray,
    Weights,
    crossed_weights,
    mean,
    ranks,
    seed_weights,
)
from bench.store.words import counted


def _mean(values: Iterable[float]) -> float:
    return mean([value for value in values if not math.isnan(value)])


@dataclass(frozen=True)
class Standing:
    """A line of the leaderboard.

    Attributes:
        line: the defense and its number of labels.
        rating: mean DER over ``places``, with its interval over trainings and test examples; None where it is not
            finished everywhere, or told the trigger.
        rank: by ``rating``. Its interval covers the bootstrap over tasks, attacks, trainings and test examples, and the
            ranks by the flip rate at each limit of :data:`bench.report.ranking.matched.LIMITS`.
        means: of each metric, over ``places``; NaN where not known.
        matched: the flip rate at each limit of accuracy lost, over ``places``.
        places: where it is finished and the attack implanted.
        of: how many places there are.
        mark: ``best`` DER, or ``equal``: shown to be as good, see :meth:`Results.best`.
        time: median ratio of its seconds to those of fine-tuning; NaN where that is not known.
        needs: what it touches.
        oracle: whether it is told the trigger and the target label.
        seeds: least number of seeds behind a place.
        unconverged: how many of its cells stopped before their training had converged.
        rival: whether it may be better than the best: in more than 2.5 % of draws of tasks, attacks, trainings and
            test examples its DER is not below that of the best.
        external: the package it comes from; empty for one that ships with the project.
    """

    line: Competitor
    rating: Estimate | None
    rank: Estimate | None
    means: Means
    matched: Mapping[float, float]
    places: tuple[Setting, ...]
    of: int
    mark: Mark
    time: float
    needs: tuple[str, ...]
    oracle: bool
    seeds: int
    unconverged: int = 0
    external: str = ""
    rival: bool = False

    @property
    def complete(self) -> bool:
        """Whether it is finished everywhere: only then can it be compared with the others."""
        return self.of > 0 and len(self.places) == self.of


@dataclass(frozen=True)
class Ranking:
    """The order of the defenses that are finished at the same places.

    Attributes:
        ratings: mean DER.
        ranks: by it.
        marks: see :meth:`Results.best`.
        rivals: those that may be better than the first.
    """

    ratings: Mapping[Competitor, Estimate] = field(default_factory=dict)
    ranks: Mapping[Competitor, Estimate] = field(default_factory=dict)
    marks: Mapping[Competitor, Mark] = field(default_factory=dict)
    rivals: frozenset[Competitor] = frozenset()


class Leaderboard:
    """The ranking of one board, or of a part of it.

    Attributes:
        results: the cells of the board.
        implanted: where an attack implanted that does not repeat another one, in the order of the suite.
        places: those of them that count, see :meth:`counting`.
    """

    def __init__(self, results: Results, *, seed: int = 0) -> None:
        self.results = results
        everywhere = [place for place in results.places if results.state(place) == "implanted"]
        self.implanted = [place for place in everywhere if place not in results.repeats]
        self.repeated = len(everywhere) - len(self.implanted)
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
        parts = [f"{counted(count, 'place')} (model, task, attack) where the attack implanted"]
        if rest:
            are = "more is" if rest == 1 else "more are"
            parts.append(f"{rest} {are} left out, where too few of the same defenses are finished")
        if self.repeated:
            parts.append(f"{self.repeated} more repeat another attack cell by cell and count once")
        return "; ".join(parts)

    @cached_property
    def means(self) -> dict[tuple[Setting, Competitor], Means]:
        """The mean metrics of every finished line at every place where an attack implanted."""
        keys = [(place, line) for place in self.implanted for line in self.results.complete(place)]
        cells = [(place, self.results.cells(place, line)) for place, line in keys]
        return dict(zip(keys, all_means(self.results, cells), strict=True))

    @cached_property
    def matched(self) -> dict[tuple[Setting, Competitor], dict[float, float]]:
        """The flip rates at each limit of accuracy lost, as ``means``."""
        victims = {place: matched.undefended(self.results, place) for place in self.implanted}
        return {(place, line): matched.flip_rates(self.results, place, line, victims[place])
                for place, line in self.means}  # fmt: skip

    def rank_at(self, place: Setting, line: Competitor) -> float:
        """Return the rank of a line at a place; NaN where it has none."""
        return self._ranks.get(place, {}).get(line, math.nan)

    @cached_property
    def _ranks(self) -> dict[Setting, dict[Competitor, float]]:
        """The ranks of the lines that are compared at each place."""
        return {
            place: dict(zip(rated.lines, ranks(-rated.points.mean(axis=1)).tolist(), strict=True))
            for place, rated in self.results.ratings.items()
        }

    def standings(self, places: Sequence[Setting] | None = None) -> list[Standing]:
        """Return every line that the suite has at those places that count: complete first, best rank first."""
        wanted = self.places if places is None else self.counting(places)
        lines = [line for line in self.results.lines if any(self.results.cells(place, line) for place in wanted)]
        places_of = {line: tuple(place for place in wanted if (place, line) in self.means) for line in lines}
        compared_ = [
            line for line in lines if len(places_of[line]) == len(wanted) and line.defense not in self.results.oracles
        ]
        ranking = self._ranking(compared_, wanted)
        standings = [self._standing(line, places_of[line], len(wanted), ranking) for line in lines]
        return sorted(standings, key=_order)

    def reference(self, role: Role, places: Sequence[Setting] | None = None) -> Means:
        """Return the means of the clean model or of the undefended victims over places."""
        wanted = self.places if places is None else self.counting(places)
        each = [(place, self.results.references(place, role)) for place in wanted]
        return mean_of_each(all_means(self.results, each))

    def _ranking(self, lines: Sequence[Competitor], places: Sequence[Setting]) -> Ranking:
        """Rank lines that are finished at all places."""
        each = self.results.ratings
        if not lines or not all(place in each for place in places):
            return Ranking()
        estimates = dict(zip(lines, ratings.estimates(each, places, lines), strict=True))
        if any(math.isnan(one.value) for one in estimates.values()):
            return Ranking()  # records that do not say which test row a triggered example was made from
        orders = [ranks([-estimates[line].value for line in lines])]
        orders += [
            ranks([_mean(self.matched[place, line][limit] for place in places) for line in lines])
            for limit in matched.LIMITS
        ]
        values = self._drawn(lines, places)
        drawn = ranks(-values)
        tail = (1 - LEVEL) / 2
        ahead = (values >= values[np.argmin(orders[0])]).mean(axis=1)
        low, high = np.quantile(drawn, [tail, 1 - tail], axis=1)
        bounds = np.min([low, *orders], axis=0), np.max([high, *orders], axis=0)
        ranked = {
            line: Estimate(float(orders[0][i]), float(bounds[0][i]), float(bounds[1][i]))
            for i, line in enumerate(lines)
        }
        rivals = frozenset(line for line, share in zip(lines, ahead, strict=True) if share > tail)
        return Ranking(estimates, ranked, self.results.best(lines, places), rivals)

    def _drawn(self, lines: Sequence[Competitor], places: Sequence[Setting]) -> FloatArray:
        """Return mean DER over drawn tasks, attacks, trainings and test examples: [lines, draws]."""
        each, rng = self.results.ratings, np.random.default_rng(self._seed)
        draws = each[places[0]].drawn.shape[-1]
        factors: list[list[object]] = [
            [(place.model, place.task) for place in places],
            [(place.attack, place.target) for place in places],
        ]
        counts = crossed_weights(factors, rng=rng, draws=draws)
        total, plain = np.zeros((len(lines), draws)), np.zeros((len(lines), draws))
        trainings: dict[tuple[str, str, int], Weights] = {}
        for place, count in zip(places, counts, strict=True):
            rated = each[place]
            size = len(rated.seeds)
            key = (place.model, place.task, size)
            if key not in trainings:
                trainings[key] = Weights(seed_weights(size, rng=rng, draws=draws))
            one = trainings[key].means(rated.drawn_of(lines))
            total += one * count
            plain += one
        none = counts.sum(axis=0) == 0  # a draw without any of the places is taken over all of them
        averages: FloatArray = np.where(none, plain / len(places), total / np.maximum(counts.sum(axis=0), 1))
        return averages

    def _standing(self, line: Competitor, places: tuple[Setting, ...], of: int, ranking: Ranking) -> Standing:
        rows = [row for place in places for row in self.results.cells(place, line).values()]
        known = rows or [row for (place, other), cells in self.results.items() if other == line
                         for row in cells.values()]  # fmt: skip
        return Standing(
            line=line,
            rating=ranking.ratings.get(line),
            rank=ranking.ranks.get(line),
            means=mean_of_each([self.means[place, line] for place in places]),
            matched={limit: _mean(self.matched[place, line][limit] for place in places) for limit in matched.LIMITS},
            places=places,
            of=of,
            mark=ranking.marks.get(line, ""),
            time=self._time(line, places),
            needs=known[0].needs,
            oracle=line.defense in self.results.oracles,
            seeds=min((len(self.results.used_seeds(place)) for place in places), default=0),
            unconverged=sum(row.unconverged for row in rows),
            external=self.results.external.get(line.defense, ""),
            rival=line in ranking.rivals,
        )

    def _time(self, line: Competitor, places: Sequence[Setting]) -> float:
        ratios = [ratio for place in places for ratio in self.time_ratios(place, line)]
        return float(np.median(ratios)) if ratios else math.nan

    def time_ratios(self, place: Setting, line: Competitor) -> list[float]:
        """Return the seconds of a line relative to those of the yardstick with as many labels, for each seed."""
        yardsticks = [other for other in self.results.lines if other.defense == YARDSTICK]
        same = [other for other in yardsticks if other.clean_size == line.clean_size] or yardsticks
        references = self.results.cells(place, same[0]) if same else {}
        ratios = []
        for seed, row in self.results.cells(place, line).items():
            reference = references.get(seed)
            ours, theirs = row.seconds("defense"), reference.seconds("defense") if reference else None
            if ours is not None and theirs:
                ratios.append(ours / theirs)
        return ratios


def _order(standing: Standing) -> tuple[bool, float, float]:
    rank = math.inf if standing.rank is None else standing.rank.value
    rating = standing.means[RANKING.name]
    return not standing.complete, rank, math.inf if math.isnan(rating) else -rating
