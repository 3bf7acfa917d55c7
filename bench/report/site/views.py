"""What the pages show of a board, before it takes a form."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from bench.contracts import Board, Kind
from bench.experiment.metrics import ACCURACY, BACKDOOR, Metric, Show, ranking_first, shown
from bench.experiment.roles import DEFENDED, Role
from bench.report.ranking import detection, headlines
from bench.report.ranking.averages import Means, all_means, means
from bench.report.ranking.boards import BoardName
from bench.report.ranking.leaderboard import Leaderboard, Standing
from bench.report.ranking.matched import LIMITS
from bench.report.ranking.results import Competitor, Mark, Results, Setting
from bench.report.ranking.signs import Sign, signs, signs_of_detectors
from bench.report.rows import curves, frames
from bench.report.rows.row import Row, first_line
from bench.report.site.names import slug
from bench.report.tables import cells as tables
from bench.store.words import counted
from bench.suites.suite import Gate

if TYPE_CHECKING:
    from pandas import DataFrame

STATES = {
    "implanted": "implanted",
    "not implanted": "did not implant",
    "no trigger": "no trigger",
    "unknown": "not finished",
}


class Budgets:
    """The cells of a threat model, with every budget of labels."""

    def __init__(self, rows: Sequence[Row], gate: Gate) -> None:
        self.rows, self._gate = rows, gate

    @cached_property
    def frame(self) -> DataFrame:
        """One row for each listed cell."""
        return frames.frame(self.rows, gate=self._gate)


class BoardView:
    """One board of the site.

    Attributes:
        board: what it compares.
        results: its cells.
        leaderboard: its ranking.
        labels: how each line is called.
    """

    def __init__(self, board: BoardName, rows: Sequence[Row], gate: Gate, *, family: Budgets | None = None) -> None:
        """Arrange the rows of a board; ``family`` has those of its threat model with every budget of labels."""
        self.board = board
        self._family = family or Budgets(rows, gate)
        self._references: dict[Role, dict[Setting, Means]] = {}
        self.results = Results(rows, gate=gate)
        self.leaderboard = Leaderboard(self.results)
        self.labels = tables.labels(self.results, marked=False)
        self.marks: dict[Setting, dict[Competitor, Mark]] = {
            place: self.results.marks(place) for place in self.results.places
        }

    @property
    def name(self) -> str:
        """What it compares, with a capital: kind of model, threat model, and the labels of a defender."""
        return self.board.words[0].upper() + self.board.words[1:]

    @property
    def slug(self) -> str:
        """The name of the page."""
        return slug(self.board.slug)

    @property
    def what(self) -> str:
        """The threat model in a sentence."""
        return self.board.threat.sentence

    @property
    def detects(self) -> bool:
        """Whether models are judged here, instead of their predictions."""
        return self.board.threat.judges_models

    @cached_property
    def headline(self) -> str:
        """Which defense is best, by how much, and how sure that is."""
        if self.detects:
            return headlines.detectors(self.detections, self.label)
        return headlines.headline(self.leaderboard, self.standings, self.label)

    @cached_property
    def signs(self) -> Mapping[Competitor, Sign]:
        """How each line stands to the best one."""
        return signs_of_detectors(self.detections) if self.detects else signs(self.standings)

    @property
    def over(self) -> str:
        """How many of the places with a trigger the means are over, and how many seeds."""
        seeds = sorted({len(self.results.used_seeds(place)) for place in self.leaderboard.places})
        least = f"{seeds[0]} to " if len(seeds) > 1 else ""
        many = least + counted(seeds[-1] if seeds else 0, "seed")
        return (
            f"{len(self.leaderboard.places)} of {counted(self._triggered, 'place')} (model, task, attack), {many} each"
        )

    @property
    def left_out(self) -> bool:
        """Whether any place with a trigger does not count."""
        return len(self.leaderboard.places) < self._triggered

    @cached_property
    def _triggered(self) -> int:
        return sum(self.results.state(place) != "no trigger" for place in self.results.places)

    @cached_property
    def standings(self) -> list[Standing]:
        """Every line, best first."""
        return self.leaderboard.standings()

    @cached_property
    def board_metrics(self) -> list[Metric]:
        """The metrics of the leaderboard, in the order of its columns."""
        known = [standing.means for standing in self.standings]
        return [*ranking_first(shown(Show.SITE_BOARD, known=known, kind=self.results.kind))]

    @cached_property
    def cell_metrics(self) -> list[Metric]:
        """The metrics of the tables of cells, in the order of their columns."""
        known = self.leaderboard.means.values()
        return [*ranking_first(shown(Show.SITE_CELLS, known=known, kind=self.results.kind))]

    @cached_property
    def detections(self) -> list[detection.Detection]:
        """Every detector, highest AUROC first."""
        return detection.detections(self.results)

    @cached_property
    def _defended(self) -> list[Row]:
        """The defended cells, and those that were chosen among them."""
        chosen = (row for _, cells in self.results.items() for row in cells.values())
        return [*(row for row in self.results.rows if _defends(row)), *chosen]

    @cached_property
    def bases(self) -> dict[str, str]:
        """The defense without parameters, by its spelling."""
        return {row.defense: row.defense_base or row.defense for row in self._defended}

    @cached_property
    def attack_bases(self) -> dict[str, str]:
        """The attack without parameters, by its spelling."""
        return {row.attack: row.attack_base or row.attack for row in self.results.rows}

    @cached_property
    def parameters(self) -> dict[str, dict[str, object]]:
        """Every field of a defense, by its spelling."""
        return {row.defense: dict(row.defense_parameters) for row in self._defended}

    @cached_property
    def several_targets(self) -> bool:
        """Whether target labels vary, so that places have to name theirs."""
        return len({place.target for place in self.results.places if place.target is not None}) > 1

    def reference(self, place: Setting, role: Role) -> Means:
        """Return the means of the undefended victim or of the clean model at a place."""
        if role not in self._references:
            each = [(place, self.results.references(place, role)) for place in self.results.places]
            self._references[role] = dict(zip(self.results.places, all_means(self.results, each), strict=True))
        return self._references[role][place]

    @cached_property
    def samples(self) -> dict[Competitor, tuple[int, ...]]:
        """For each line the seeds that any place has."""
        by_line: dict[Competitor, set[int]] = {}
        for (_, line), cells in self.results.items():
            by_line.setdefault(line, set()).update(cells)
        return {line: tuple(sorted(seeds)) for line, seeds in by_line.items()}

    @cached_property
    def counts(self) -> dict[str, Counter[str]]:
        """How many cells each defense, attack and task has."""
        rows = [row for row in self.results.rows if _defends(row)]
        return {
            "defense": Counter(self.bases[row.defense] for row in rows),
            "attack": Counter(self.attack_bases[row.attack] for row in rows),
            "task": Counter(row.task for row in rows),
            "model": Counter(row.model for row in rows),
        }

    def place_attack(self, place: Setting) -> str:
        """Return how a place's attack is called, with its target label where that varies."""
        target = f" → {place.target}" if self.several_targets and place.target is not None else ""
        return place.attack + target

    def label(self, line: Competitor) -> str:
        """Return how a line is called."""
        return self.labels[line]

    def needs(self, line: Competitor) -> tuple[str, ...]:
        """Return what a line touches."""
        rows = (row for (_, other), cells in self.results.items() if other == line for row in cells.values())
        return next((row.needs for row in rows), ())

    def places(
        self, *, task: str | None = None, attack_base: str | None = None, model: str | None = None
    ) -> list[Setting]:
        """Return the places of a task, of an attack or of a model."""
        return [
            place
            for place in self.results.places
            if task in (None, place.task)
            and attack_base in (None, self.attack_bases[place.attack])
            and model in (None, place.model)
        ]

    @cached_property
    def curves(self) -> list[dict[str, object]]:
        """The points of reserve-ratio and clean-size curves: one for each curve, value and place.

        A place counts where all values of the curve are there, so that its points are means over the same places.
        Ratios are compared within the budget of the board.
        """
        frame = self._family.frame
        within = frame[frame["clean_size"].isin([0, self.board.labels])]
        entries: list[dict[str, object]] = []
        for kind, points in (("ratio", curves.ratio_points(within)), ("size", curves.size_points(frame))):
            points = points[
                (points["status"] == "done") & points[BACKDOOR.name].notna() & points["implanted"].fillna(False)
            ]
            where = ["model", "task", "attack"]
            values = points.groupby("curve")[kind].transform("nunique")
            here = points.groupby(["curve", *where])[kind].transform("nunique")
            shared = points[here == values]
            names = shared.groupby(["curve", kind])["defense"].unique()
            needs = {of: sorted({need for name in some for need in self._needs[name]}) for of, some in names.items()}
            groups = shared.groupby(["curve", kind, *where], sort=False)
            averages = {metric.name: groups[metric.name].mean().tolist() for metric in (ACCURACY, BACKDOOR)}
            seeds = groups["seed"].nunique()
            for key, number, *each in zip(seeds.index, seeds.tolist(), *averages.values(), strict=True):
                point = dict(zip(("curve", "x", *where), key, strict=True))
                beside = {"seeds": number, "needs": needs[key[:2]]}
                entries.append({"kind": kind, **point, **dict(zip(averages, each, strict=True)), **beside})
        return entries

    @cached_property
    def _needs(self) -> dict[str, tuple[str, ...]]:
        return {row.defense: row.needs for row in self._family.rows if _defends(row)}


def _defends(row: Row) -> bool:
    return row.role in DEFENDED


@dataclass(frozen=True)
class CellView:
    """A defense at a place, over seeds.

    Attributes:
        status: ``done``, ``failed``, ``n/a``, ``waiting`` or ``partly``: some seeds that count are not done.
        reason: why there is no number; empty where there is one.
        means: of every metric over the seeds that count.
        deviations: standard deviations of the metrics that are shown with them; NaN for one seed.
        matched: the flip rate at each limit of accuracy lost; NaN where the defense is not complete.
        rows: every cell by seed.
        rank: among the defenses of the place; NaN without one.
    """

    place: Setting
    line: Competitor
    status: str
    reason: str
    means: dict[str, float]
    deviations: dict[str, float]
    matched: Mapping[float, float]
    rows: tuple[Row, ...]
    rank: float
    mark: Mark
    seeds: int


def cell_view(view: BoardView, place: Setting, line: Competitor) -> CellView:
    """Return a defense at a place; the place may be one where the attack did not implant."""
    results = view.results
    cells = results.cells(place, line)
    used = [cells[seed] for seed in results.used_seeds(place) if seed in cells]
    done = [row for row in used if row.done]
    averages, deviations = _numbers(view, place, line)
    statuses = [row.status for row in used]
    status = "done" if done and len(done) == len(results.used_seeds(place)) else "partly" if done else _worst(statuses)
    reason = next((first_line(row.error) for row in used if row.status in ("failed", "n/a")), "")
    return CellView(
        place=place,
        line=line,
        status=status,
        reason=reason,
        means=averages,
        deviations=deviations,
        matched=view.leaderboard.matched.get((place, line)) or dict.fromkeys(LIMITS, math.nan),
        rows=tuple(cells[seed] for seed in sorted(cells)),
        rank=view.leaderboard.rank_at(place, line),
        mark=view.marks[place].get(line, ""),
        seeds=len(done),
    )


def _numbers(view: BoardView, place: Setting, line: Competitor) -> tuple[dict[str, float], dict[str, float]]:
    cells = view.results.cells(place, line)
    known = view.leaderboard.means.get((place, line))
    averages = known if known is not None else means(view.results, place, cells)
    done = [cells[seed] for seed in view.results.used_seeds(place) if seed in cells and cells[seed].done]
    deviations = {}
    metrics = [
        metric
        for metric in shown(Show.CELLS, kind=view.results.kind)
        if not metric.measure or metric.name in view.results.known_metrics
    ]
    for metric, number in zip(metrics, tables.numbers(done, metrics), strict=True):
        deviations[metric.name] = math.nan if number is None or number.spread is None else number.spread
    return averages, deviations


def _worst(statuses: Sequence[str]) -> str:
    return next((status for status in ("failed", "n/a", "waiting") if status in statuses), "waiting")


def record_token(row: Row) -> str:
    """Return how a link names a record: two digits of its victim's key (they decide its file), twelve of its own."""
    return row.victim_key[:2] + row.cell_key[:12]


@dataclass(frozen=True)
class Family:
    """The boards of one threat model and kind of model: one for each budget of labels.

    Attributes:
        views: its boards, fewest labels first.
    """

    views: tuple[BoardView, ...]

    @property
    def main(self) -> BoardView:
        """The board with most defended cells; of equals the one with fewest labels."""
        return max(self.views, key=lambda view: sum(row.done and _defends(row) for row in view.results.rows))

    @property
    def kind(self) -> Kind:
        """The kind of model."""
        return self.main.board.kind

    @property
    def name(self) -> str:
        """The threat model, and the kind of model where it is not the usual one."""
        words = replace(self.main.board, labels=0).words
        return words[0].upper() + words[1:]


def families(views: Sequence[BoardView]) -> list[Family]:
    """Return the boards by what they compare, in the order of the boards."""
    by_kind: dict[tuple[Kind, Board], list[BoardView]] = {}
    for view in views:
        by_kind.setdefault((view.board.kind, view.board.threat), []).append(view)
    return [Family(tuple(sorted(members, key=lambda view: view.board.labels))) for members in by_kind.values()]
