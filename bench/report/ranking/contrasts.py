"""Mean differences between two defenses over many places, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.experiment.metrics import Metric
from bench.experiment.roles import VICTIM
from bench.report.ranking.results import Results, Setting
from bench.report.ranking.statistics import Estimate, FloatArray, Runs, mean_contrast
from bench.report.rows.row import Row


@dataclass(frozen=True)
class Measured:
    """A mean contrast.

    Attributes:
        estimate: in percentage points; None where no finished cells can be compared.
        places: how many places are in the mean.
        cells: keys of the cells behind it.
        clean: sizes of the clean samples behind it, in examples; none where no defense reads one.
    """

    estimate: Estimate | None = None
    places: int = 0
    cells: tuple[str, ...] = ()
    clean: tuple[int, ...] = ()

    @property
    def seeds(self) -> int:
        """How many independent trainings are behind it: a seed on one task and model is one."""
        return 0 if self.estimate is None else self.estimate.seeds


def measure(
    results: Results,
    places: Sequence[Setting],
    *,
    metric: Metric,
    of: str,
    minus: str | None = None,
    most_clean: int | None = None,
) -> Measured:
    """Return the mean over places of a metric of one defense, less that of another.

    Args:
        results: the cells of a suite.
        places: each weighs the same; those where a cell is missing are left out.
        metric: what is compared.
        of: a defense; ``none`` is the undefended victim.
        minus: another one; without it, the level of ``of``.
        most_clean: most labels; of the allowed budgets, see :func:`finished`.
    """
    sides: list[tuple[Setting, list[dict[int, Row]]]] = []
    for place in places:
        cells = [finished(results, place, name, most_clean) for name in (of, minus) if name is not None]
        common = set.intersection(*map(set, cells))
        if common:
            sides.append((place, [{seed: side[seed] for seed in sorted(common)} for side in cells]))
    if not sides:
        return Measured()
    groups: dict[tuple[str, str, int], list[list[Runs]]] = {}  # one for each test set
    for place, cells in sides:
        runs = [results.runs(side, metric, side) for side in cells]
        if not all(runs):
            continue
        examples = len(next(iter(runs[0].values())))
        groups.setdefault((place.model, place.task, examples), []).append(runs)
    if not groups:
        return Measured()
    estimate = mean_contrast([_block(group) for group in groups.values()])
    rows = [row for _, cells in sides for side in cells for row in side.values()]
    clean = sorted({row.clean_size for row in rows} - {0})
    return Measured(estimate, len(sides), tuple(row.cell_key for row in rows), tuple(clean))


def _block(group: Sequence[Sequence[Runs]]) -> FloatArray:
    """Return outcomes [sides, contrasts, seeds, examples], NaN where a contrast lacks a seed."""
    seeds = sorted({seed for sides in group for seed in sides[0]})
    examples = len(next(iter(group[0][0].values())))
    block = np.full((len(group[0]), len(group), len(seeds), examples), np.nan)
    for contrast, sides in enumerate(group):
        for side, runs in enumerate(sides):
            for seed, outcomes in runs.items():
                block[side, contrast, seeds.index(seed)] = outcomes
    return block


def finished(results: Results, place: Setting, defense: str, most_clean: int | None) -> dict[int, Row]:
    """Return the finished cells of a defense by seed, among the seeds that count.

    Of several sizes of the clean sample, the one that most places have is taken, and the largest of equals.
    """
    cells: Mapping[int, Row] = {}
    if defense == VICTIM.spelling:
        cells = results.references(place, "victim")
    else:
        sizes = [line for line in results.lines if line.defense == defense]
        allowed = [line for line in sizes if most_clean is None or line.clean_size <= most_clean]
        if allowed:
            cells = results.cells(place, max(allowed, key=lambda line: (results.places_of[line], line.clean_size)))
    used = results.used_seeds(place)
    return {seed: row for seed, row in cells.items() if seed in used and row.done}
