"""The pages of a site: the overview, one for each board, defense, attack and task, the records and the guide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench._version import __version__
from bench.contracts import Needs
from bench.experiment.metrics import Metric, Show, ranking_first, shown
from bench.report.ranking import facts
from bench.report.ranking.results import Competitor, Setting
from bench.report.rows.row import Row
from bench.report.site import charts, data, plugins, render
from bench.report.site.names import slug
from bench.report.site.views import STATES, BoardView, cell_view, record_token
from bench.suites.suite import Gate

CHARTS = (
    (charts.TRADEOFF, "Trade-off", "Flip rate that is left against ACC that is lost; lower left is better."),
    (
        charts.RANKS,
        "Effectiveness",
        "What ranks, with 95 % intervals over trainings and test examples; 50 is doing nothing.",
    ),
    (charts.HEAT, "Defense by attack", "Flip rate that each defense leaves each attack, mean over tasks and seeds."),
    ("curve-flip-ratio", "Reserve ratio and flip rate", "Share of the victim's weights that is kept."),
    ("curve-acc-ratio", "Reserve ratio and ACC", "Share of the victim's weights that is kept."),
    ("curve-flip-size", "Labels and flip rate", "Clean labelled examples that the defense sees."),
    ("curve-acc-size", "Labels and ACC", "Clean labelled examples that the defense sees."),
)


@dataclass(frozen=True)
class Entry:
    """A line of the lists of pages."""

    name: str
    kind: str
    href: str
    summary: str
    boards: str
    cells: int


@dataclass(frozen=True)
class Site:
    """Everything that the pages are made of.

    Attributes:
        views: the boards.
        rows: every cell.
        suites: names of the suites.
        gate: when an attack counts as implanted.
    """

    views: Sequence[BoardView]
    rows: Sequence[Row]
    suites: Sequence[str]
    gate: Gate

    def pages(self) -> Iterator[tuple[str, str]]:
        """Yield every page with its path."""
        yield "index.html", self._page("index", root="", here="index.html", title="Boards", tiles=self._tiles(),
                                       catalogue=self.catalogue)  # fmt: skip
        yield "guide.html", self._page("guide", root="", here="guide.html", title="Reading guide", tables=False,
                                       guide=_guide())  # fmt: skip
        yield "record.html", self._page("record", root="", title="Records", tables=False, scripts=("record.js",),
                                        digits=data.digits(self.rows))  # fmt: skip
        for view in self.views:
            yield from self._board(view)
        for kind, title in (("defense", "Defenses"), ("attack", "Attacks"), ("task", "Tasks")):
            entries = [entry for entry in self.catalogue if entry.kind == kind]
            here = f"{kind}/index.html"
            yield here, self._page("list", here=here, title=title, entries=entries)
        for name in self.defenses:
            yield f"defense/{slug(name)}.html", self._defense(name)
        for name in self.attacks:
            yield f"attack/{slug(name)}.html", self._place_page("attack", name)
        for name in self.tasks:
            yield f"task/{slug(name)}.html", self._place_page("task", name)

    def _page(self, template: str, **content: Any) -> str:
        common = {"views": self.views, "version": __version__, "gate": self.gate, "suites": self._suites}
        return render.page(template, **common, counts=self._counts, **content)

    @cached_property
    def _suites(self) -> str:
        return f"suite{'s' if len(self.suites) > 1 else ''} {', '.join(self.suites)}"

    @cached_property
    def _counts(self) -> str:
        done = sum(row.done for row in self.rows)
        return f"{done:,} records of {len(self.rows):,} cells"

    def _tiles(self) -> list[tuple[str, str]]:
        listed = (("defenses", self.defenses), ("attacks", self.attacks), ("tasks", self.tasks))
        return [(name, str(len(members))) for name, members in listed] + [
            ("records", f"{sum(row.done for row in self.rows):,}")
        ]

    @cached_property
    def defenses(self) -> list[str]:
        """Every defense without parameters."""
        return sorted({base for view in self.views for base in view.bases.values()})

    @cached_property
    def attacks(self) -> list[str]:
        """Every attack without parameters."""
        return sorted({base for view in self.views for base in view.attack_bases.values()})

    @cached_property
    def tasks(self) -> list[str]:
        """Every task."""
        return sorted({row.task for row in self.rows})

    @cached_property
    def citations(self) -> dict[str, str]:
        """What every method says of where it was published."""
        parts = [part for kind, names in (("attack", self.attacks), ("defense", self.defenses))
                for name in names for part in plugins.parts_of(kind, name)]  # fmt: skip
        return {part.name: part.citation for part in parts if part.citation}

    @cached_property
    def catalogue(self) -> list[Entry]:
        """Every page that stands for something, for the search."""
        entries = [Entry(view.name, "board", f"board/{view.slug}.html", view.what, view.name, len(view.results.rows))
                 for view in self.views]  # fmt: skip
        kinds = (("defense", self.defenses), ("attack", self.attacks), ("task", self.tasks))
        for kind, names in kinds:
            for name in names:
                summary = " ".join(part.summary for part in plugins.parts_of(kind, name))
                counts = {view.name: count for view in self.views if (count := self._cells(view, kind, name))}
                entries.append(Entry(name, kind, f"{kind}/{slug(name)}.html", summary, ", ".join(counts),
                                   sum(counts.values())))  # fmt: skip
        return entries

    def _cells(self, view: BoardView, kind: str, name: str) -> int:
        return view.counts[kind].get(name, 0)

    def _board(self, view: BoardView) -> Iterator[tuple[str, str]]:
        places = view.results.places
        filters = [
            ("task", "Task", sorted({place.task for place in places})),
            ("attack", "Attack", list(dict.fromkeys(view.place_attack(place) for place in places))),
            ("model", "Model", sorted({place.model for place in places})),
        ]
        needs = {need for standing in view.standings for need in standing.needs}
        ranked = {standing.line for standing in view.standings}
        unranked = [view.label(line) for line in view.results.lines if line not in ranked]
        common = {"view": view, "most_seeds": max((len(s) for s in view.samples.values()), default=1)}
        yield (
            f"board/{view.slug}.html",
            self._page(
                "board",
                title=view.name,
                scripts=() if view.detects else ("ranking.js", "board.js", "charts.js", "specs.js"),
                filters=[one for one in filters if len(one[2]) > 1],
                needs_there=[need for need in Needs if need in needs],
                unranked=unranked,
                charts=CHARTS,
                **common,
            ),
        )
        if not view.detects:
            title = f"All cells: {view.board.words}"
            yield f"board/{view.slug}-cells.html", self._page("cells", title=title, scripts=("cells.js",),
                                                              filters=filters, **common)  # fmt: skip

    def _defense(self, name: str) -> str:
        sections = [section for view in self.views if (section := _defense_section(view, name))["lines"]]
        return self._page("defense", title=name, name=name, parts=plugins.parts_of("defense", name), sections=sections)

    def _place_page(self, kind: str, name: str) -> str:
        wanted = {"task": name} if kind == "task" else {"attack_base": name}
        listed = [(view, view.places(**wanted)) for view in self.views]
        sections = [{"view": view, "places": places} for view, places in listed if places and not view.detects]
        victims: dict[Setting, dict[str, Any]] = {}
        for view, places in listed:
            for place in places:
                victims.setdefault(place, _victim(view, place, kind))
        parts = plugins.parts_of(kind, name.partition(" [")[0])
        return self._page(
            "attack", title=name, name=name, kind=kind, parts=parts, sections=sections, victims=list(victims.values())
        )


def _guide() -> list[tuple[str, str]]:
    """Return the columns of the boards with their meaning."""
    metrics = ranking_first(shown(Show.SITE_BOARD | Show.SITE_CELLS))
    columns = []
    for column in (facts.RANK, *metrics, facts.MATCHED, facts.LABELS, facts.TIME):
        meaning = f"{column.stands_for}: {column.meaning}" if column.stands_for else column.meaning
        better = f" {column.direction.capitalize()}." if isinstance(column, Metric) and column.better else ""
        columns.append((column.heading, f"{meaning[0].upper()}{meaning[1:]}.{better}"))
    return columns


def _defense_section(view: BoardView, name: str) -> dict[str, Any]:
    standings = {standing.line: standing for standing in view.standings}
    detections = {one.line: one for one in view.detections} if view.detects else {}
    lines = []
    for line in view.results.lines:
        if view.bases[line.defense] != name:
            continue
        one = detections.get(line)
        lines.append(
            {
                "label": view.label(line),
                "standing": None if view.detects else standings.get(line),
                "detection": one,
                "judged": () if one is None else one.judged,
                "needs": view.needs(line),
                "parameters": view.parameters[line.defense],
                "cells": [] if view.detects else list(_cells_of(view, line)),
            }
        )
    return {"view": view, "lines": lines, "curves": any(name in str(point["curve"]) for point in view.curves)}


def _cells_of(view: BoardView, line: Competitor) -> Iterator[Mapping[str, Any]]:
    for place in view.results.places:
        if view.results.cells(place, line):
            cell = cell_view(view, place, line)
            yield {
                **{
                    name: getattr(cell, name)
                    for name in ("place", "status", "reason", "means", "rank", "mark", "seeds")
                },
                "deviations": cell.deviations,
                "victim": view.reference(place, "victim"),
                "floor": view.reference(place, "floor"),
                "grey": view.results.state(place) == "not implanted",
                "rows": [{"token": record_token(row), "known": row.record or row.failure} for row in cell.rows],
            }


def _victim(view: BoardView, place: Setting, kind: str) -> dict[str, Any]:
    rows = view.results.references(place, "victim")
    other = f"task/{slug(place.task)}" if kind == "attack" else f"attack/{slug(view.attack_bases[place.attack])}"
    state = view.results.state(place)
    return {
        "place": place,
        "href": f"{other}.html",
        "state": STATES[state],
        "grey": state == "not implanted",
        "victim": view.reference(place, "victim"),
        "floor": view.reference(place, "floor"),
        "seeds": sum(row.done for row in rows.values()),
        "tokens": "_".join(record_token(row) for row in rows.values() if row.record or row.failure),
    }
