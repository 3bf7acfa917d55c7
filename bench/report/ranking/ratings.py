"""How effective each defense is at one setting (DER), and what chance makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from zlib import crc32

import numpy as np

from bench.experiment.metrics import ACCURACY, BACKDOOR, GUESS, rating
from bench.experiment.outcomes import together
from bench.report.ranking.competition import Competitor, Setting
from bench.report.ranking.statistics import (
    DRAWS,
    Estimate,
    FloatArray,
    all_combined,
    example_draws,
    mean_values,
    resampled,
)
from bench.report.rows.row import Row

AT_ONCE = 64  # settings whose outcomes are in memory


@dataclass(frozen=True)
class Ratings:
    """The DER of the defenses that are compared at a setting.

    Attributes:
        lines: these defenses.
        seeds: those that count.
        points: [lines, seeds], in percent.
        drawn: [lines, seeds, draws] over resampled test examples.
    """

    lines: tuple[Competitor, ...]
    seeds: tuple[int, ...]
    points: FloatArray
    drawn: FloatArray

    def points_of(self, lines: Sequence[Competitor], minus: Competitor | None = None) -> FloatArray:
        """Return values [lines, seeds] of some defenses, or of their leads over another."""
        return self._of(self.points, lines, minus)

    def drawn_of(self, lines: Sequence[Competitor], minus: Competitor | None = None) -> FloatArray:
        """Return drawn values [lines, seeds, draws] of some defenses, or of their leads over another."""
        return self._of(self.drawn, lines, minus)

    def _of(self, values: FloatArray, lines: Sequence[Competitor], minus: Competitor | None) -> FloatArray:
        wanted = values if tuple(lines) == self.lines else values[[self.lines.index(line) for line in lines]]
        return wanted if minus is None else wanted - values[self.lines.index(minus)]

    def among(self, lines: Sequence[Competitor], seeds: Sequence[int]) -> Ratings | None:
        """Return the ratings of some defenses; None where they are not those of the same seeds, or one is missing."""
        if self.seeds != tuple(seeds) or not set(lines) <= set(self.lines):
            return None
        return Ratings(tuple(lines), self.seeds, self.points_of(lines), self.drawn_of(lines))

    def at(self, seeds: Sequence[int]) -> Ratings:
        """Return the ratings at all of some seeds, NaN at those that it lacks."""
        if tuple(seeds) == self.seeds:
            return self
        known = [seeds.index(seed) for seed in self.seeds]
        points = np.full((len(self.lines), len(seeds)), np.nan)
        drawn = np.full((*points.shape, self.drawn.shape[-1]), np.nan, dtype=self.drawn.dtype)
        points[:, known], drawn[:, known] = self.points, self.drawn
        return Ratings(self.lines, tuple(seeds), points, drawn)


@dataclass(frozen=True)
class Cells:
    """The finished cells of a setting.

    Attributes:
        task: whose test set they are judged on.
        victims: the undefended victims, by seed.
        defended: for each defense its cells by seed.
        seeds: those that count; every cell of them is finished.
    """

    task: str
    victims: Mapping[int, Row]
    defended: Mapping[Competitor, Mapping[int, Row]]
    seeds: Sequence[int]


@dataclass(frozen=True)
class _Known:
    """What a rating is made of: by metric, the outcomes [sides, seeds, examples] and percentages [sides, seeds].

    And what always answering the most frequent class gets, percent [seeds].
    """

    task: str
    lines: tuple[Competitor, ...]
    seeds: tuple[int, ...]
    outcomes: Mapping[str, FloatArray]
    points: Mapping[str, FloatArray]
    guesses: FloatArray


def rate(settings: Sequence[Cells], *, seed: int = 0, draws: int = DRAWS) -> list[Ratings]:
    """Return the ratings at settings, a few at a time in threads. Those on one task share the drawn test examples.

    Args:
        settings: their cells.
        seed: of the bootstrap.
        draws: bootstrap samples.
    """
    if len(settings) < 2:
        return [_rate(_known(cells), seed, draws) for cells in settings]
    from threadpoolctl import threadpool_limits

    from bench.runner.devices import threads_of

    pool = ThreadPoolExecutor(threads_of(1), thread_name_prefix="ratings")
    with threadpool_limits(1), pool:  # threads of a product would wait for each other
        some = (settings[start : start + AT_ONCE] for start in range(0, len(settings), AT_ONCE))
        each = (pool.map(lambda known: _rate(known, seed, draws), map(_known, part)) for part in some)
        return list(chain.from_iterable(each))


def _known(cells: Cells) -> _Known:
    sides, seeds = [cells.victims, *cells.defended.values()], cells.seeds
    outcomes, points = {}, {}
    for metric in (ACCURACY, BACKDOOR):
        each = together([side[seed].outcomes for side in sides for seed in seeds], metric.name)
        outcomes[metric.name] = each.reshape(len(sides), len(seeds), -1)
        points[metric.name] = np.array([[side[seed].percentages[metric.name] for seed in seeds] for side in sides])
    guesses = np.array([cells.victims[seed].percentages[GUESS.name] for seed in seeds])
    return _Known(cells.task, tuple(cells.defended), tuple(seeds), outcomes, points, guesses)


def _rate(known: _Known, seed: int, draws: int) -> Ratings:
    own = seed, crc32(known.task.encode())
    drawn = {
        name: 100 * example_draws(outcomes, resampled(outcomes.shape[-1], own, draws))
        for name, outcomes in known.outcomes.items()
    }
    return Ratings(
        known.lines,
        known.seeds,
        _rating(known.points, known.guesses),
        _rating(drawn, known.guesses[:, None]).astype(np.float32),
    )


def _rating(of: Mapping[str, FloatArray], majority: FloatArray) -> FloatArray:
    """Return ratings of all but the first entry, which is the victim."""
    acc, flip = of[ACCURACY.name], of[BACKDOOR.name]
    return rating(acc[1:], flip[1:], victim_acc=acc[0], victim_flip=flip[0], majority=majority)


def estimate(
    each: Mapping[Setting, Ratings], places: Iterable[Setting], line: Competitor, minus: Competitor | None = None
) -> Estimate:
    """Return the mean DER of a defense over settings, or its mean lead over another, with its interval.

    Args:
        each: the ratings at every setting.
        places: settings at which the defenses are rated; each weighs the same.
        line: the defense.
        minus: the other one.
    """
    return estimates(each, places, [line], minus)[0]


def estimates(
    each: Mapping[Setting, Ratings],
    places: Iterable[Setting],
    lines: Sequence[Competitor],
    minus: Competitor | None = None,
    *,
    intervals: bool = True,
) -> list[Estimate]:
    """Return as many estimates as there are defenses, as :func:`estimate` does; without intervals, in half the time."""
    blocks = [
        (np.array([one.points_of(lines, minus) for one in group]), [one.drawn_of(lines, minus) for one in group])
        for group in _by_task(each, places)
    ]
    return all_combined(blocks, rng=np.random.default_rng(0) if intervals else None)


def means(each: Mapping[Setting, Ratings], places: Iterable[Setting], lines: Sequence[Competitor]) -> list[float]:
    """Return the mean DER of defenses over settings: what :func:`estimates` says without what chance makes of it."""
    points = [np.array([one.points_of(lines) for one in group]) for group in _by_task(each, places)]
    values: list[float] = mean_values(points).tolist()
    return values


def _by_task(each: Mapping[Setting, Ratings], places: Iterable[Setting]) -> Iterator[list[Ratings]]:
    """Yield the ratings at settings, those on one task by the same model together, at the same seeds."""
    groups: dict[tuple[str, str], list[Ratings]] = {}
    for place in places:
        groups.setdefault((place.model, place.task), []).append(each[place])
    for group in groups.values():
        seeds = sorted({seed for ratings in group for seed in ratings.seeds})
        yield [ratings.at(seeds) for ratings in group]
