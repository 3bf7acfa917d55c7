"""How effective each defense is at one setting (DER), and what chance makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.experiment.metrics import ACCURACY, BACKDOOR, GUESS, rating
from bench.report.ranking.competition import Competitor, Setting
from bench.report.ranking.statistics import DRAWS, Estimate, FloatArray, combined, example_draws
from bench.report.rows.row import Row


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

    def of(self, line: Competitor, minus: Competitor | None = None) -> tuple[FloatArray, FloatArray]:
        """Return values [seeds] and drawn values [seeds, draws] of a defense, or of its lead over another."""
        i = self.lines.index(line)
        if minus is None:
            return self.points[i], self.drawn[i]
        j = self.lines.index(minus)
        return self.points[i] - self.points[j], self.drawn[i] - self.drawn[j]


def rate(
    victims: Mapping[int, Row],
    defended: Mapping[Competitor, Mapping[int, Row]],
    seeds: Sequence[int],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Ratings:
    """Return the ratings at a setting.

    Args:
        victims: the undefended victims, by seed.
        defended: for each defense its cells by seed.
        seeds: those that count; every cell of them is finished.
        seed: of the bootstrap.
        draws: bootstrap samples.
    """
    cells = [victims, *defended.values()]
    rng = np.random.default_rng(seed)
    points, drawn = {}, {}
    for metric in (ACCURACY, BACKDOOR):
        runs = [[side[s].outcomes[metric.name] for s in seeds] for side in cells]
        length = next((len(run) for side in runs for run in side if run is not None), 1)
        absent = np.full(length, np.nan)  # where the metric is not defined
        outcomes = np.array([[absent if run is None else run for run in side] for side in runs])
        drawn[metric.name] = 100 * example_draws(outcomes, rng=rng, draws=draws)
        points[metric.name] = np.array([[side[s].percentages[metric.name] for s in seeds] for side in cells])
    majority = np.array([victims[s].percentages[GUESS.name] for s in seeds])
    return Ratings(
        tuple(defended), tuple(seeds), _rating(points, majority), _rating(drawn, majority[:, None]).astype(np.float32)
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
    groups: dict[tuple[str, str], list[Ratings]] = {}
    for place in places:
        groups.setdefault((place.model, place.task), []).append(each[place])
    blocks = []
    for group in groups.values():
        seeds = sorted({seed for ratings in group for seed in ratings.seeds})
        pairs = [ratings.of(line, minus) for ratings in group]
        points = np.full((len(group), len(seeds)), np.nan)
        drawn = np.full((*points.shape, pairs[0][1].shape[-1]), np.nan)
        for row, (ratings, pair) in enumerate(zip(group, pairs, strict=True)):
            at = [seeds.index(seed) for seed in ratings.seeds]
            points[row, at], drawn[row, at] = pair
        blocks.append((points, drawn))
    return combined(blocks, rng=np.random.default_rng(0))
