"""Leaderboards: one line a defense, one board for each threat model, model and set of comparable suites.

All numbers come from the frame that ``doorbench export`` writes and from :class:`bench.report.results.Results`, so that the
site, the tables and the claims agree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.keys import canonical
from bench.report import curves, tables
from bench.report.results import Line, Place, Results
from bench.report.rows import Row
from bench.report.site.threats import THREATS, Threat, threat_of
from bench.report.statistics import FloatArray, mean_rank
from bench.report.summary import YARDSTICK
from bench.suite import Gate

if TYPE_CHECKING:
    from pandas import DataFrame, Series

LEAST_GAP = 1.0  # points of ASR between victim and clean model; with less there is nothing to be effective against
MEANS = (
    "acc",
    "asr",
    "ra",
    "frr",
    "far",
    "drop",
    "effect",
    "score",
    "victim_acc",
    "victim_asr",
    "clean_acc",
    "clean_asr",
)
CONDITIONS = ("tolerance", "selection_size")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A suite with its cells.

    Attributes:
        suite: its name.
        rows: every cell, floors and ceilings included.
        gate: when an attack counts as implanted.
        description: one line.
        conditions: what else has to be equal for numbers to stand on one board, e.g. the profile or the budget. The
            budget, the tolerance and the selection size are read from the records besides.
    """

    suite: str
    rows: Sequence[Row]
    gate: Gate = Gate()
    description: str = ""
    conditions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """Part of a board: one task or all (None), one attack or all (None)."""

    task: str | None = None
    attack: str | None = None

    def has(self, place: Place) -> bool:
        """Whether a place belongs to it."""
        return self.task in (None, place.task) and self.attack in (None, place.attack)


@dataclass(frozen=True)
class Board:
    """Defenses that can be compared: one threat model, one model, suites with the same conditions."""

    threat: Threat
    model: str
    sources: tuple[Source, ...]
    conditions: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def suites(self) -> tuple[str, ...]:
        """Names of the suites."""
        return tuple(source.suite for source in self.sources)

    @property
    def title(self) -> str:
        """Threat model, model and suites."""
        return f"{self.threat.title} · {self.model} · {', '.join(self.suites)}"

    @cached_property
    def results(self) -> Results:
        """The cells, arranged by place and line."""
        return Results(self.rows, gate=self.sources[0].gate)

    @cached_property
    def places(self) -> list[Place]:
        """Where defenses meet, in the order of the suites."""
        return self.results.places

    @cached_property
    def lines(self) -> list[Line]:
        """The competitors, then the points of reserve-ratio curves, which are shown but do not compete."""
        points = curves.ratio_points(self.results.frame)[["defense", "clean_size"]].drop_duplicates()
        competitors = self.results.lines
        extra = [Line(str(name), int(size)) for name, size in points.itertuples(index=False)]
        return [*competitors, *(line for line in extra if line not in set(competitors))]

    @cached_property
    def labels(self) -> list[str]:
        """How each line is called."""
        known = tables.labels(self.results)
        return [known.get(line, line.defense) for line in self.lines]

    @cached_property
    def example(self) -> list[Row]:
        """A cell of each line, for what all its cells share."""
        found = {Line(row.defense, row.clean_size): row for row in reversed(self.rows) if row.role == "defended"}
        return [found[line] for line in self.lines]

    @cached_property
    def implanted(self) -> list[int]:
        """Indices of the places where the attack implanted; only these enter ranks and means."""
        return [i for i, place in enumerate(self.places) if self.results.state(place) == "implanted"]

    @cached_property
    def by_key(self) -> dict[str, Row]:
        """Rows by cell key."""
        return {row.cell_key: row for row in self.rows}

    @cached_property
    def cells(self) -> DataFrame:
        """One row a defended cell: the export columns, then line, place, used, drop, effect, score and time.

        ``used`` says whether the cell's seed counts: its victim passed the gate, or the gate decides nothing there.
        """
        frame = self.results.frame
        rows = [self.by_key[key] for key in frame["cell_key"]]
        line_at = {line: i for i, line in enumerate(self.lines)}
        place_at = {place: i for i, place in enumerate(self.places)}
        table = frame.assign(
            line=[line_at.get(Line(row.defense, row.clean_size), -1) for row in rows],
            place=[place_at[Place(row.model, row.task, row.attack, row.target)] for row in rows],
        )
        table = table[[row.role == "defended" for row in rows]]
        gap = (table["victim_asr"] - table["clean_asr"]).where(lambda value: value >= LEAST_GAP)
        return table.assign(
            used=~table["place"].isin(self.implanted) | table["implanted"].fillna(False).astype(bool),
            drop=table["victim_acc"] - table["acc"],
            effect=100 * (table["victim_asr"] - table["asr"]) / gap,
            score=(table["acc"] * (100 - table["asr"])) ** 0.5,
            time=_relative(table),
        )

    @cached_property
    def spots(self) -> DataFrame:
        """One row a line and place: means over the seeds that count, ``acc_sd``, ``asr_sd``, seeds, done, complete."""
        cells = self.cells[self.cells["used"]]
        done = cells[cells["status"] == "done"]
        keys = ["line", "place"]
        found = cells.groupby(keys).agg(seeds=("seed", "nunique"))
        groups = done.groupby(keys)
        found = found.join(groups[[*MEANS, "seconds_defense"]].mean()).join(groups["seed"].nunique().rename("done"))
        found = found.join(groups[["acc", "asr"]].std(ddof=1).add_suffix("_sd"))
        found = found.join(groups["time"].median()).reset_index()
        wanted = [len(self.results.used_seeds(place)) for place in self.places]
        found["done"] = found["done"].fillna(0).astype(int)
        found["complete"] = found["done"] == found["place"].map(dict(enumerate(wanted)))
        found["implanted"] = found["place"].isin(self.implanted)
        return found

    @cached_property
    def _draws(self) -> dict[int, tuple[FloatArray, FloatArray]]:
        """Scores and sampled scores of each implanted place where something is ranked."""
        scores, sampled, _ = self.results.rank_draws()
        there = [i for i in self.implanted if self.results.ranked(self.places[i])]
        return {i: (scores[k], sampled[k]) for k, i in enumerate(there)}

    @cached_property
    def views(self) -> list[View]:
        """The whole board first, then every task, every attack and every pair that has an implanted place."""
        there = [self.places[i] for i in self.implanted]
        tasks, attacks = dict.fromkeys(p.task for p in there), dict.fromkeys(p.attack for p in there)
        every = [View(task, attack) for task in (None, *tasks) for attack in (None, *attacks)]
        return [view for view in every if any(view.has(place) for place in there)] or [View()]

    def entries(self, view: View = View()) -> DataFrame:
        """Return one line a competitor, best mean rank first.

        Means are taken over seeds, then over the implanted places of the view on which the line is finished.

        Returns:
            line, rank, low, high (95 % interval), acc, drop, asr, ra, frr, far, effect, score, clean_drop (ACC lost
            on the clean model), time (median of seconds relative to fine-tuning), seeds (least of a place), places and
            ``of`` (implanted places of the view). NaN where there is no number.
        """
        import numpy as np
        import pandas as pd

        wanted = [i for i in self.implanted if view.has(self.places[i])]
        spots = self.spots[self.spots["complete"]]
        there = spots[spots["place"].isin(wanted)]
        groups = there.groupby("line")
        found = pd.DataFrame({"line": np.arange(len(self.results.lines))}).set_index("line")
        found = found.join(self._standing(wanted)).join(groups[[*MEANS[:8]]].mean())
        found = found.join(groups.agg(seeds=("done", "min"), places=("place", "nunique")))
        found = found.join(self._median_time(there)).join(self._clean_drop(spots, view))
        found["places"], found["of"] = found["places"].fillna(0).astype(int), len(wanted)
        found["partial"] = found["places"] < len(wanted)
        return found.sort_values(["partial", "rank", "asr"], kind="stable").reset_index()

    def _standing(self, places: Sequence[int]) -> DataFrame:
        """Return rank, low and high of each competitor over some places."""
        import pandas as pd

        draws = [self._draws[i] for i in places if i in self._draws]
        if not draws:
            return pd.DataFrame(columns=["rank", "low", "high"], dtype="float64")
        found = mean_rank([score for score, _ in draws], [sampled for _, sampled in draws], seeds=1)
        known = {i: (mean.value, mean.low, mean.high) for i, mean in enumerate(found) if mean is not None}
        return pd.DataFrame.from_dict(known, orient="index", columns=["rank", "low", "high"])

    def _median_time(self, spots: DataFrame) -> Series[float]:
        """Return the median time of each line over the done cells of the given spots."""
        done = self.cells[self.cells["status"] == "done"]
        return done.merge(spots[["line", "place"]], on=["line", "place"]).groupby("line")["time"].median()

    def _clean_drop(self, spots: DataFrame, view: View) -> Series[float]:
        """Return the ACC that each line costs a clean model; the attack of the view plays no part."""
        clean = [i for i, p in enumerate(self.places) if self.is_clean(i) and view.task in (None, p.task)]
        return spots[spots["place"].isin(clean)].groupby("line")["drop"].mean().rename("clean_drop")

    def is_clean(self, place: int) -> bool:
        """Whether there is no backdoor at a place: the clean reference."""
        return self.results.state(self.places[place]) == "no trigger"

    def references(self, view: View = View()) -> dict[str, dict[str, float]]:
        """Return ACC and ASR of the clean model and of the undefended victim over the implanted places of a view."""
        import pandas as pd

        wanted = [i for i in self.implanted if view.has(self.places[i])]
        found: dict[str, dict[str, float]] = {"clean model": {}, "no defense": {}}
        for name, role, metric in (
            ("clean model", "floor", "acc"), ("clean model", "floor", "asr"),
            ("no defense", "victim", "acc"), ("no defense", "victim", "asr"), ("no defense", "victim", "ra"),
        ):  # fmt: skip
            each = []
            for i in wanted:
                cells = self.results.references(self.places[i], "floor" if role == "floor" else "victim")
                used = (cells.get(seed) for seed in self.results.used_seeds(self.places[i]))
                each.append(pd.Series([row.metric(metric) for row in used if row is not None], dtype="float64").mean())
            found[name][metric] = float(pd.Series(each, dtype="float64").mean())
        return found


def _relative(cells: DataFrame) -> list[float]:
    """Return seconds over those of fine-tuning on the same victim, with the same clean size where that was run."""
    yardstick = cells[(cells["defense"] == YARDSTICK) & (cells["seconds_defense"] > 0)]
    rows = list(zip(yardstick["victim_key"], yardstick["clean_size"], yardstick["seconds_defense"], strict=True))
    same = {(key, size): seconds for key, size, seconds in rows}
    any_size = {key: seconds for key, _, seconds in reversed(rows)}
    there = zip(cells["victim_key"], cells["clean_size"], cells["seconds_defense"], strict=True)
    nan = float("nan")
    return [seconds / same.get((key, size), any_size.get(key, nan)) for key, size, seconds in there]


def conditions_of(source: Source, rows: Iterable[Row]) -> dict[str, Any]:
    """Return what has to be equal for two suites to share a board, as the records of one model tell it."""
    recipes = [row.record.get("recipe") or {} for row in rows if row.record is not None]
    found = {name: _distinct(recipe.get(name) for recipe in recipes) for name in CONDITIONS}
    found["budget"] = _distinct((recipe.get("victim") or {}).get("budget") for recipe in recipes)
    return {**{k: v for k, v in found.items() if v}, "gate": source.gate.model_dump(mode="json"), **source.conditions}


def _distinct(values: Iterable[Any]) -> Any:
    """Return the one value, all of them sorted where they differ, or None where there is none."""
    known = {canonical({"value": value}): value for value in values if value is not None}
    found = [known[text] for text in sorted(known)]
    return found[0] if len(found) == 1 else found or None


def assemble(sources: Iterable[Source]) -> list[Board]:
    """Return every board, in the order of :data:`THREATS`; suites share one only under equal conditions."""
    groups: dict[tuple[str, str], list[tuple[Source, list[Row]]]] = defaultdict(list)
    conditions: dict[tuple[str, str], dict[str, Any]] = {}
    for source in sources:
        by_model: dict[str, list[Row]] = defaultdict(list)
        for row in source.rows:
            by_model[row.model].append(row)
        for model, rows in by_model.items():
            found = conditions_of(source, rows)
            key = (model, canonical(found))
            groups[key].append((source, rows))
            conditions[key] = found
    boards = [board for key, group in groups.items() for board in _of_group(key[0], conditions[key], group)]
    order = list(THREATS)
    return sorted(boards, key=lambda board: order.index(board.threat.slug))


def _of_group(model: str, conditions: Mapping[str, Any], group: Sequence[tuple[Source, list[Row]]]) -> list[Board]:
    rows = _unique(row for _, some in group for row in some)
    by_threat: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.role == "defended":
            by_threat[threat_of(row).slug].append(row)
    references = [row for row in rows if row.role != "defended"]
    boards = []
    for slug, some in by_threat.items():
        victims = {row.victim_key for row in some}
        kept = [row for row in references if row.victim_key in victims or row.attack_base == "clean"]
        there = {row.cell_key for row in some}
        sources = tuple(source for source, own in group if any(row.cell_key in there for row in own))
        boards.append(Board(THREATS[slug], model, sources, conditions, (*kept, *some)))
    return boards


def _unique(rows: Iterable[Row]) -> list[Row]:
    """Return one row a cell: a cell that two suites list stands once; listed and finished ones win."""
    found: dict[str, Row] = {}
    for row in rows:
        old = found.get(row.cell_key)
        if old is None or (row.listed, row.done) > (old.listed, old.done):
            found[row.cell_key] = row
    return list(found.values())
