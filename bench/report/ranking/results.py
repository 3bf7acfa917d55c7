"""A suite's results by place (model, task, attack) and line (defense): what tables, summaries and claims read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from bench.experiment.metrics import ACCURACY, MEASURED, RANKING, Metric
from bench.experiment.roles import Role
from bench.report.ranking.statistics import (
    DRAWS,
    FloatArray,
    Runs,
    example_draws,
    not_worse_than_best,
    seed_weights,
    with_seeds,
)
from bench.report.rows import curves, frames, trainings
from bench.report.rows.row import Row
from bench.suites.suite import Gate

if TYPE_CHECKING:
    from pandas import DataFrame

MAX_DROP = 5.0  # points of ACC that a defense may lose against the victim and still be ranked by its ASR
LEAST_GAIN = 5.0  # points of ASR that a defense has to take from the victim's before it can be called best
LAST = 1000.0  # a score beyond any ASR: defenses that lose more share the last rank
State = Literal["implanted", "not implanted", "no trigger", "unknown"]
Mark = Literal["best", "close", ""]


@dataclass(frozen=True)
class Setting:
    """Where defenses meet: one attack on one task and model."""

    model: str
    task: str
    attack: str
    target: int | None = None


@dataclass(frozen=True)
class Competitor:
    """Who competes: a defense with one clean-data size; 0 for those that read no clean data."""

    defense: str
    clean_size: int = 0


class Results:
    """The cells of a suite, arranged.

    Attributes:
        rows: every cell, floors and ceilings included.
        gate: when an attack counts as implanted.
        places: in the order of the suite.
        lines: defenses in the order of the suite, without ``none``. Of a curve of reserve ratios, one point: the best
            on the test sets, as an oracle.
        swept: how many listed cells are points of such curves.
    """

    def __init__(self, rows: Iterable[Row], *, gate: Gate | None = None) -> None:
        self.rows = list(rows)
        self.gate = gate or Gate()
        self.victims = {row.victim_key: row for row in self.rows if row.role == "victim"}
        self.floors = {row.victim_key: row for row in self.rows if row.role == "floor"}
        self._cells: dict[tuple[Setting, Competitor], dict[int, Row]] = defaultdict(dict)
        self._keys: dict[Setting, dict[int, str]] = defaultdict(dict)
        points = set(curves.ratio_points(self.frame)["cell_key"])
        self.swept = len(points)
        for row in self.rows:
            if not row.listed or row.role == "floor" or row.cell_key in points:
                continue
            self._keys[_place(row)][row.seed] = row.victim_key
            if row.role in ("defended", "detected"):
                self._cells[_place(row), Competitor(row.defense, row.clean_size)][row.seed] = row
        swept = [row for row in self.rows if row.cell_key in points]
        for row in curves.best_on_test(swept, self.victims.values(), most_drop=MAX_DROP):
            self._keys[_place(row)][row.seed] = row.victim_key
            self._cells[_place(row), Competitor(row.defense, row.clean_size)][row.seed] = row
        order = {name: i for i, name in enumerate(dict.fromkeys((p.model, p.task) for p in self._keys))}
        self.places = sorted(self._keys, key=lambda place: order[place.model, place.task])
        self.lines = list(dict.fromkeys(line for _, line in self._cells))

    @cached_property
    def frame(self) -> DataFrame:
        """One row a listed cell, with the columns of ``doorbench export``."""
        return frames.frame(self.rows, gate=self.gate)

    @cached_property
    def known_metrics(self) -> frozenset[str]:
        """Names of the metrics of which any cell has a number."""
        return frozenset(name for row in self.rows for name in MEASURED if row.metric(name) is not None)

    @cached_property
    def oracles(self) -> frozenset[str]:
        """Defenses that are told the trigger, or chosen on the test sets: shown, but neither marked nor ranked."""
        return frozenset(row.defense for cells in self._cells.values() for row in cells.values() if row.oracle)

    @cached_property
    def cells_of_other_trainings(self) -> frozenset[str]:
        """Keys of the cells of another training of their victim than most, see :mod:`bench.report.rows.trainings`."""
        return trainings.cells_of_other_trainings(self.rows)

    @cached_property
    def external(self) -> Mapping[str, str]:
        """The package of every defense that does not ship with the project."""
        return {row.defense: row.external for row in self.rows if row.external}

    @cached_property
    def _implanted(self) -> dict[str, bool | None]:
        references = frames.References.of(self.rows)
        return {key: frames.implanted(references.joined(row), self.gate) for key, row in self.victims.items()}

    def cells(self, place: Setting, line: Competitor) -> dict[int, Row]:
        """Return the cells by seed; empty where the suite has none."""
        return self._cells.get((place, line), {})

    def items(self) -> Iterable[tuple[tuple[Setting, Competitor], dict[int, Row]]]:
        """Return every place and line with its cells by seed."""
        return self._cells.items()

    def seeds(self, place: Setting) -> list[int]:
        """Return every seed of a place."""
        return sorted(self._keys[place])

    def state(self, place: Setting) -> State:
        """Return whether the attack implanted: in any seed, in none, or not known yet."""
        keys = self._keys[place].values()
        victims = [self.victims[key] for key in keys if key in self.victims]
        if any(row.attack_base == "clean" or (row.done and row.metric(RANKING.name) is None) for row in victims):
            return "no trigger"
        known = [self._implanted.get(key) for key in keys]
        if any(known):
            return "implanted"
        return "unknown" if None in known else "not implanted"

    def used_seeds(self, place: Setting) -> list[int]:
        """Return the seeds that count: those whose victim passed the gate, or all where the gate decides nothing."""
        if self.state(place) != "implanted":
            return self.seeds(place)
        return [seed for seed in self.seeds(place) if self._implanted.get(self._keys[place][seed])]

    def references(self, place: Setting, role: Role) -> dict[int, Row]:
        """Return the victims or the clean model by seed; without a trigger, the clean model is the victim itself."""
        found = self.floors if role == "floor" and self.state(place) != "no trigger" else self.victims
        return {seed: found[key] for seed, key in self._keys[place].items() if key in found}

    def runs(self, cells: dict[int, Row], metric: Metric, seeds: Iterable[int]) -> Runs:
        """Return per-example outcomes of the finished cells among the given seeds."""
        found = {}
        for seed in seeds:
            row = cells.get(seed)
            hits = row.outcomes[metric.name] if row is not None and row.done else None
            if hits is not None:
                found[seed] = hits
        return found

    def complete(self, place: Setting) -> list[Competitor]:
        """Return the defenses that are finished on every seed that counts; only they are compared."""
        seeds, victims = self.used_seeds(place), self.references(place, "victim")
        if not all(seed in victims and victims[seed].done for seed in seeds):
            return []
        there = ((line, self.cells(place, line)) for line in self.lines)
        return [line for line, cells in there if all(seed in cells and cells[seed].predicts for seed in seeds)]

    def ranked(self, place: Setting) -> list[Competitor]:
        """Return the defenses that are compared at a place: complete, and not told the trigger."""
        return [line for line in self.complete(place) if line.defense not in self.oracles]

    def marks(self, place: Setting) -> dict[Competitor, Mark]:
        """Return the best defense and those that are not significantly worse; none where nothing was implanted.

        Best is the lowest ASR among the defenses that lose at most ``MAX_DROP`` points of ACC against the victim and
        take at least ``LEAST_GAIN`` points from its ASR.
        """
        if self.state(place) != "implanted":
            return {}
        seeds = self.used_seeds(place)
        lines = [
            line
            for line in self.ranked(place)
            if self.lost(place, line, ACCURACY) <= MAX_DROP and self.lost(place, line, RANKING) >= LEAST_GAIN
        ]
        if not lines:
            return {}
        best, close = not_worse_than_best([self.runs(self.cells(place, line), RANKING, seeds) for line in lines])
        return {line: "best" if i == best else "close" for i, line in enumerate(lines) if close[i]}

    def lost(self, place: Setting, line: Competitor, metric: Metric) -> float:
        """Return the mean of a metric lost against the victim, in points, over the finished seeds that count."""
        victims, cells = self.references(place, "victim"), self.cells(place, line)
        lost = [
            _lost(victims[seed], cells[seed], metric)
            for seed in self.used_seeds(place)
            if seed in cells and seed in victims
        ]
        known = [value for value in lost if value is not None]
        return float(np.mean(known)) if known else float("nan")

    @cached_property
    def ranked_places(self) -> list[Setting]:
        """The places that enter ranks: the attack implanted, and a defense is complete."""
        return [place for place in self.places if self.state(place) == "implanted" and self.ranked(place)]

    def rank_draws(self, *, seed: int = 0, draws: int = DRAWS) -> tuple[list[FloatArray], list[FloatArray], int]:
        """Return what :func:`bench.report.ranking.statistics.mean_rank` wants, over ``ranked_places``.

        Returns:
            For each place the scores [lines] and the sampled scores [lines, draws]: the ASR, or ``LAST`` where the
            ACC drop is too large, NaN where a defense is not ranked; and the least number of seeds.
        """
        pairs = list(self.score_draws(seed=seed, draws=draws))
        least = min((len(self.used_seeds(place)) for place in self.ranked_places), default=0)
        return [scores for scores, _ in pairs], [sampled for _, sampled in pairs], least

    def score_draws(self, *, seed: int = 0, draws: int = DRAWS) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield scores [lines] and sampled scores [lines, draws] place by place, all from one joint bootstrap."""
        rng = np.random.default_rng(seed)
        places = self.ranked_places
        weights = {n: seed_weights(n, rng=rng, draws=draws) for n in sorted({len(self.used_seeds(p)) for p in places})}
        for place in places:
            seeds, lines = self.used_seeds(place), self.ranked(place)
            cells = [self.references(place, "victim"), *(self.cells(place, line) for line in lines)]
            means, drawn = {}, {}
            for metric in (ACCURACY, RANKING):
                runs = (self.runs(found, metric, seeds) for found in cells)
                hits = np.stack([[100.0 * run[s] for s in seeds] for run in runs])
                means[metric] = hits.mean(axis=(1, 2))
                resampled = example_draws(hits, rng=rng, draws=draws)
                drawn[metric] = with_seeds(hits.mean(axis=2), resampled, weights[len(seeds)])
            rows = [self.lines.index(line) for line in lines]
            yield (
                _scattered(_score(means[ACCURACY], means[RANKING]), rows, len(self.lines)),
                _scattered(_score(drawn[ACCURACY], drawn[RANKING]), rows, len(self.lines)),
            )


def _place(row: Row) -> Setting:
    return Setting(row.model, row.task, row.attack, row.target)


def _lost(victim: Row, cell: Row, metric: Metric) -> float | None:
    before, after = victim.metric(metric.name), cell.metric(metric.name)
    return None if before is None or after is None else before - after


def _score(acc: FloatArray, asr: FloatArray) -> FloatArray:
    """Return the ASR of each defense, ``LAST`` where the drop is too large; row 0 is the victim."""
    result: FloatArray = np.where(acc[0] - acc[1:] <= MAX_DROP, asr[1:], LAST)
    return result


def _scattered(values: FloatArray, rows: list[int], length: int) -> FloatArray:
    found = np.full((length, *values.shape[1:]), np.nan)
    found[rows] = values
    return found
