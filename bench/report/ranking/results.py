"""A suite's results by place (model, task, attack) and line (defense): what tables, summaries and claims read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from bench.contracts import Kind
from bench.experiment.metrics import SUCCESS, Metric, Show, shown
from bench.experiment.roles import DEFENDED, Role
from bench.report.ranking import ratings
from bench.report.ranking.competition import Competitor as Competitor
from bench.report.ranking.competition import Setting as Setting
from bench.report.ranking.statistics import Runs, holm
from bench.report.rows import curves, frames, trainings
from bench.report.rows.row import Row
from bench.suites.suite import Gate

if TYPE_CHECKING:
    from pandas import DataFrame

MAX_DROP = 5.0  # points of ACC that the ratio that is best on the test sets may lose
LEAST_RATING = 52.5  # DER that a defense needs before it can be called best: 5 points better than doing nothing
ALPHA = 0.05  # of the marks
MARGIN = 5.0  # points of DER: what is shown to be closer to the best than this is as good
SAME = 0.75  # share of cells with the very numbers of another attack from which on an attack repeats that one
State = Literal["implanted", "not implanted", "no trigger", "unknown"]
Mark = Literal["best", "equal", ""]


class Results:
    """The cells of a suite, arranged.

    Attributes:
        rows: every cell, floors and ceilings included.
        gate: when an attack counts as implanted.
        places: in the order of the suite.
        lines: defenses in the order of the suite, without ``none``. Of a curve of reserve ratios, one point: the best
            on the test sets, as an oracle.
        swept: how many listed cells are points of such curves.
        cells_of_other_trainings: keys of the cells that are of another training of their victim than the one that
            passed the gate, see :mod:`bench.report.rows.trainings`; they are left out.

    Args:
        rows, gate: see above.
        whole: results of which these are a part, with fewer defenses: what was computed for it is not computed again.
    """

    def __init__(self, rows: Iterable[Row], *, gate: Gate | None = None, whole: Results | None = None) -> None:
        self._whole = whole
        self.rows = list(rows)
        self.gate = gate or Gate()
        self.cells_of_other_trainings = trainings.cells_of_other_trainings(self.rows)
        self.rows = [row for row in self.rows if row.cell_key not in self.cells_of_other_trainings]
        self.victims = {row.victim_key: row for row in self.rows if row.role == "victim"}
        self.floors = {row.victim_key: row for row in self.rows if row.role == "floor"}
        self._cells: dict[tuple[Setting, Competitor], dict[int, Row]] = defaultdict(dict)
        self._keys: dict[Setting, dict[int, str]] = defaultdict(dict)
        points = curves.ratio_cells(row for row in self.rows if frames.is_shown(row))
        self.swept = len(points)
        self._sweeps: dict[tuple[Setting, Competitor], list[Row]] = defaultdict(list)
        for row in self.rows:
            if not row.listed or row.role == "floor" or row.cell_key in points:
                continue
            place = _place(row)
            self._keys[place][row.seed] = row.victim_key
            if row.role in DEFENDED:
                self._cells[place, Competitor(row.defense, row.clean_size)][row.seed] = row
        swept = [row for row in self.rows if row.cell_key in points]
        for row in swept:
            self._sweeps[_place(row), Competitor(curves.curve_name(row.defense), row.clean_size)].append(row)
        for row in curves.best_on_test(swept, self.victims.values(), most_drop=MAX_DROP):
            self._keys[_place(row)][row.seed] = row.victim_key
            self._cells[_place(row), Competitor(row.defense, row.clean_size)][row.seed] = row
        self._states: dict[Setting, State] = {}
        self._used: dict[Setting, list[int]] = {}
        self._complete: dict[Setting, list[Competitor]] = {}
        order = {name: i for i, name in enumerate(dict.fromkeys((p.model, p.task) for p in self._keys))}
        self.places = sorted(self._keys, key=lambda place: order[place.model, place.task])
        self.lines = list(dict.fromkeys(line for _, line in self._cells))

    @cached_property
    def frame(self) -> DataFrame:
        """One row for each listed cell, with the columns of ``doorbench export``."""
        return frames.frame(self.rows, gate=self.gate)

    @property
    def kind(self) -> Kind:
        """The kind of model; the rows of one board are of one kind."""
        return self.rows[0].kind if self.rows else Kind.CLASSIFICATION

    @cached_property
    def known_metrics(self) -> frozenset[str]:
        """Names of the metrics of which any cell has a number."""
        return frames.known_metrics(self.rows)

    @cached_property
    def shown_metrics(self) -> Sequence[Metric]:
        """The metrics of its tables: those that are always there, and those of which any cell has a number."""
        wanted = shown(Show.CELLS, kind=self.kind)
        return [metric for metric in wanted if metric.core or metric.name in self.known_metrics]

    @cached_property
    def oracles(self) -> frozenset[str]:
        """Defenses that are told the trigger, or chosen on the test sets: shown, but neither marked nor ranked."""
        return frozenset(row.defense for cells in self._cells.values() for row in cells.values() if row.oracle)

    @cached_property
    def external(self) -> Mapping[str, str]:
        """The package of every defense that does not ship with the project."""
        return {row.defense: row.external for row in self.rows if row.external}

    @cached_property
    def _implanted(self) -> dict[str, bool | None]:
        references = frames.References.of(self.rows)
        return {key: references.implanted(row, self.gate) for key, row in self.victims.items()}

    def cells(self, place: Setting, line: Competitor) -> dict[int, Row]:
        """Return the cells by seed; empty where the suite has none."""
        return self._cells.get((place, line), {})

    @cached_property
    def places_of(self) -> Counter[Competitor]:
        """How many places have a line."""
        return Counter(line for (_, line), cells in self._cells.items() if cells)

    def sweep(self, place: Setting, line: Competitor) -> list[Row]:
        """Return the finished cells of the seeds that count at which a suite fixes the defense's reserve ratio."""
        used = self.used_seeds(place)
        return [row for row in self._sweeps.get((place, line), ()) if row.predicts and row.seed in used]

    def items(self) -> Iterable[tuple[tuple[Setting, Competitor], dict[int, Row]]]:
        """Return every place and line with its cells by seed."""
        return self._cells.items()

    def seeds(self, place: Setting) -> list[int]:
        """Return every seed of a place."""
        return sorted(self._keys[place])

    def state(self, place: Setting) -> State:
        """Return whether the attack implanted: in any seed, in none, or not known yet."""
        if place not in self._states:
            self._states[place] = self._state(place)
        return self._states[place]

    def _state(self, place: Setting) -> State:
        keys = self._keys[place].values()
        victims = [self.victims[key] for key in keys if key in self.victims]
        if any(row.attack_base == "clean" or (row.done and row.metric(SUCCESS.name) is None) for row in victims):
            return "no trigger"
        known = [self._implanted.get(key) for key in keys]
        if any(known):
            return "implanted"
        return "unknown" if None in known else "not implanted"

    def used_seeds(self, place: Setting) -> list[int]:
        """Return the seeds that count: those whose victim passed the gate, or all where the gate decides nothing."""
        if place not in self._used:
            all_count = self.state(place) != "implanted"
            keys = self._keys[place]
            self._used[place] = [seed for seed in self.seeds(place) if all_count or self._implanted.get(keys[seed])]
        return self._used[place]

    def references(self, place: Setting, role: Role) -> dict[int, Row]:
        """Return the victims or the clean model by seed; without a trigger, the clean model is the victim itself."""
        by_key = self.floors if role == "floor" and self.state(place) != "no trigger" else self.victims
        return {seed: by_key[key] for seed, key in self._keys[place].items() if key in by_key}

    def runs(self, cells: dict[int, Row], metric: Metric, seeds: Iterable[int]) -> Runs:
        """Return per-example outcomes of the finished cells among the given seeds."""
        by_seed = {}
        for seed in seeds:
            row = cells.get(seed)
            hits = row.outcomes.get(metric.name) if row is not None and row.done else None
            if hits is not None:
                by_seed[seed] = hits
        return by_seed

    def complete(self, place: Setting) -> list[Competitor]:
        """Return the defenses that are finished on every seed that counts; only they are compared."""
        if place not in self._complete:
            seeds, victims = self.used_seeds(place), self.references(place, "victim")
            known = all(seed in victims and victims[seed].done for seed in seeds)
            finished = ((line, self.cells(place, line)) for line in self.lines if known)
            self._complete[place] = [
                line for line, cells in finished if all(seed in cells and cells[seed].predicts for seed in seeds)
            ]
        return self._complete[place]

    def ranked(self, place: Setting) -> list[Competitor]:
        """Return the defenses that are compared at a place: complete, and not told the trigger."""
        return [line for line in self.complete(place) if line.defense not in self.oracles]

    @cached_property
    def ratings(self) -> dict[Setting, ratings.Ratings]:
        """The DER of every defense at the settings that enter ranks: the attack implanted, a defense is complete."""
        places = [place for place in self.places if self.state(place) == "implanted" and self.ranked(place)]
        known = {} if self._whole is None else self._whole.ratings
        rated = {
            place: part
            for place in places
            if place in known and (part := known[place].among(self.ranked(place), self.used_seeds(place)))
        }
        missing = [place for place in places if place not in rated]
        cells = [
            ratings.Cells(
                place.task,
                self.references(place, "victim"),
                {line: self.cells(place, line) for line in self.ranked(place)},
                self.used_seeds(place),
            )
            for place in missing
        ]
        rated |= zip(missing, ratings.rate(cells), strict=True)
        return {place: rated[place] for place in places}

    def marks(self, place: Setting) -> dict[Competitor, Mark]:
        """Return the best defense of a place and those that are shown to be as good; none where nothing implanted."""
        if place not in self.ratings:
            return {}
        return self.best(self.ratings[place].lines, [place])

    def best(self, lines: Sequence[Competitor], places: Sequence[Setting]) -> dict[Competitor, Mark]:
        """Return the defense with the highest mean DER, and those that are shown to be as good.

        As good is what two one-sided tests (Holm over the defenses, 5 %) place within ``MARGIN`` points of the best.
        None is best where all are below ``LEAST_RATING``.

        Args:
            lines: defenses that are rated at each place.
            places: where; each weighs the same.
        """
        means = dict(zip(lines, ratings.means(self.ratings, places, lines), strict=True))
        means = {line: value for line, value in means.items() if value >= LEAST_RATING}
        if not means:
            return {}
        first = max(means, key=lambda line: means[line])
        near = [line for line, value in means.items() if line != first and means[first] - value < MARGIN]
        leads = ratings.estimates(self.ratings, places, near, first, intervals=False) if near else []
        p_values = [lead.p_within(MARGIN) for lead in leads]
        marks: dict[Competitor, Mark] = {first: "best"}
        return marks | {line: "equal" for line, p in zip(near, holm(p_values), strict=True) if p < ALPHA}

    @cached_property
    def repeats(self) -> dict[Setting, Setting]:
        """Settings whose attack is nearly another one: most cells have the very numbers of an earlier setting."""
        repeated: dict[Setting, Setting] = {}
        places = [place for place in self.places if self.state(place) == "implanted"]
        numbers = dict(zip(places, self._numbers(places), strict=True))
        earlier: dict[tuple[str, str], list[Setting]] = defaultdict(list)
        for place, mine in numbers.items():
            others = earlier[place.model, place.task]
            theirs = np.array([numbers[other] for other in others]).reshape(-1, len(mine))
            shared = ((theirs >= 0) & (mine >= 0)).sum(axis=1)
            same = ((theirs == mine) & (mine >= 0)).sum(axis=1)
            alike = np.flatnonzero((same > 1) & (same >= SAME * shared))
            if len(alike):
                repeated[place] = repeated.get(others[alike[0]], others[alike[0]])
            others.append(place)
        return repeated

    def _numbers(self, places: Sequence[Setting]) -> NDArray[np.int64]:
        """Return which metrics the cells of settings have, the victims among them: [settings, cells of a setting].

        Cells with the very same metrics have the same number; one that is not finished has -1.
        """
        sides = [
            (*(self.cells(place, line) for line in self.lines), self.references(place, "victim")) for place in places
        ]
        seeds = {
            seed: i for i, seed in enumerate(dict.fromkeys(seed for one in sides for side in one for seed in side))
        }
        numbers = np.full((len(places), len(self.lines) + 1, len(seeds)), -1)
        done = [
            ((i, j, seeds[seed]), row.measured)
            for i, one in enumerate(sides)
            for j, side in enumerate(one)
            for seed, row in side.items()
            if row.done
        ]
        if done:
            cells, metrics = zip(*done, strict=True)
            table = np.nan_to_num(np.array(metrics), nan=-np.inf) + 0.0
            numbers[tuple(np.transpose(cells))] = np.unique(table, axis=0, return_inverse=True)[1].reshape(-1)
        return numbers.reshape(len(places), -1)

    @cached_property
    def models(self) -> frozenset[str]:
        """The pre-trained models of its places."""
        return frozenset(place.model for place in self.places)

    @cached_property
    def targets(self) -> frozenset[int | str]:
        """The target labels of its places, or the payloads as the suite spells them."""
        return frozenset(place.target for place in self.places if place.target is not None)


def _place(row: Row) -> Setting:
    return Setting(row.model, row.task, row.attack, row.target)
