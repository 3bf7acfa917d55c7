"""The flip rate at matched accuracy: what a defense leaves of a backdoor where it may cost so much and no more."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from bench.experiment.metrics import ACCURACY, BACKDOOR
from bench.report.ranking.statistics import mean

if TYPE_CHECKING:
    from bench.report.ranking.results import Competitor, Results, Setting
    from bench.report.rows.row import Row

LIMITS = (2.0, 5.0, 10.0)  # points of accuracy lost against the victim
Point = tuple[float, float]  # accuracy or what is lost of it, flip rate


def undefended(results: Results, place: Setting) -> Point:
    """Return the accuracy and the flip rate of the victims that count, in percent."""
    victims = results.references(place, "victim")
    known = [victims[seed].percentages for seed in results.used_seeds(place)
             if seed in victims and victims[seed].done]  # fmt: skip
    acc, flip = (mean([one[metric.name] for one in known]) for metric in (ACCURACY, BACKDOOR))
    return acc, flip


def flip_rates(results: Results, place: Setting, line: Competitor, victims: Point) -> dict[float, float]:
    """Return the flip rate at each limit, from means over the seeds that count.

    A defense that costs more than a limit cannot be used there: what is left is the victim's. Where the suite has a
    sweep of its reserve ratio, the best of the sweep within the limit counts, with straight lines between its points.
    What the ``victims`` of the place have is :func:`undefended`.
    """
    used, cells = results.used_seeds(place), results.cells(place, line)
    acc, flip = victims
    own = [_point([cells[seed] for seed in used if seed in cells], acc, flip)]
    ratios: dict[float, list[Row]] = {}
    for row in results.sweep(place, line):
        ratios.setdefault(float(row.defense_parameters["reserve_ratio"]), []).append(row)
    sweep = [_point(ratios[ratio], acc, flip) for ratio in sorted(ratios)]
    return {limit: at(limit, own, sweep, undefended=flip) for limit in LIMITS}


def at(limit: float, own: Iterable[Point], sweep: Iterable[Point], *, undefended: float) -> float:
    """Return the least flip rate of the points that lose at most ``limit``, and of the sweep where it crosses it."""
    sweep = list(sweep)
    rates = [flip for lost, flip in (*own, *sweep) if lost <= limit]
    for (lost, flip), (next_lost, next_flip) in pairwise(sweep):
        if min(lost, next_lost) < limit < max(lost, next_lost):
            rates.append(flip + (next_flip - flip) * (limit - lost) / (next_lost - lost))
    return min([undefended, *rates])


def _point(rows: Iterable[Row], acc: float, flip: float) -> Point:
    """Return what cells lose and leave; a flip rate that is not defined counts as the victim's."""
    known = [row.percentages for row in rows if row.done]
    left = mean([flip if math.isnan(one[BACKDOOR.name]) else one[BACKDOOR.name] for one in known])
    return acc - mean([one[ACCURACY.name] for one in known]), left
