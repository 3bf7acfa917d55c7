"""The pages of a site: the overview, one for each board, defense, attack, task and model, the records and the guide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bench import models
from bench._version import __version__
from bench.contracts import Kind, Needs
from bench.experiment.metrics import Metric, Show, ranking_first, shown
from bench.report.ranking import facts
from bench.report.rows.row import Row
from bench.report.site import charts, data, plugins, render, subjects, zoo
from bench.report.site.names import slug
from bench.report.site.views import BoardView, Family, families
from bench.store.words import counted
from bench.suites.suite import Gate

_CURVE = "Each curve over the places that have all of its points."
CHARTS = (
    (charts.TRADEOFF, "Trade-off", "Flip rate that is left against ACC that is lost; lower left is better."),
    (
        charts.RANKS,
        "Effectiveness",
        "What ranks, with 95 % intervals over trainings and test examples; 50 is doing nothing. Whether two are "
        "told apart is said by the signs of the table.",
    ),
    (charts.HEAT, "Defense by attack", "Flip rate that each defense leaves each attack, mean over tasks and seeds."),
    ("curve-flip-ratio", "Reserve ratio and flip rate", f"Share of the victim's weights that is kept. {_CURVE}"),
    ("curve-acc-ratio", "Reserve ratio and ACC", f"Share of the victim's weights that is kept. {_CURVE}"),
    ("curve-flip-size", "Labels and flip rate", f"Clean labelled examples that the defense sees. {_CURVE}"),
    ("curve-acc-size", "Labels and ACC", f"Clean labelled examples that the defense sees. {_CURVE}"),
)
DETECTION_CHARTS = (
    (charts.AREAS, "AUROC", "With 95 % intervals over models; 50 is guessing. Follows the filters."),
    (charts.AREA_HEAT, "Detector by attack", "AUROC against each attack, in percent. Follows the choice of detectors."),
)
LISTS = (("defense", "Defenses"), ("attack", "Attacks"), ("task", "Tasks"), ("model", "Models"))


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
        address: where the site will be, with ``/`` at its end; empty where that is not known.
        tasks_described: what is said of tasks on files, see :class:`Source`.
    """

    views: Sequence[BoardView]
    rows: Sequence[Row]
    suites: Sequence[str]
    gate: Gate
    address: str = ""
    tasks_described: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def pages(self) -> Iterator[tuple[str, str]]:
        """Yield every page with its path."""
        yield self._page("index.html", title="Boards", here="index.html", tiles=self._tiles(),
                         catalogue=self.catalogue, kinds=self._kinds())  # fmt: skip
        yield self._page("guide.html", title="Reading guide", here="guide.html", tables=False, guide=_guide(self.views))
        yield self._page("submit.html", title="Submit results", here="submit.html", tables=False)
        yield self._page("404.html", title="Not here", tables=False, base=self.address)
        yield self._page("record.html", title="Records", tables=False, scripts=("record.js",),
                         digits=data.digits(self.rows))  # fmt: skip
        yield self._page("zoo.html", title="Model zoo", here="zoo.html", victims=zoo.victims(self.rows),
                         purified=zoo.purified(self.rows))  # fmt: skip
        for view in self.views:
            yield from self._board(view)
        for kind, title in LISTS:
            entries = [entry for entry in self.catalogue if entry.kind == kind]
            yield self._page(f"{kind}/index.html", "list", title=title, here=f"{kind}/index.html", entries=entries)
        for name in self.defenses:
            yield self._defense(name)
        for kind, names in (("attack", self.attacks), ("task", self.tasks), ("model", self.models)):
            for name in names:
                yield self._subject(kind, name)

    def _page(self, path: str, template: str = "", **content: Any) -> tuple[str, str]:
        """Return a path and its page; ``template`` is the name of the file where it is not given."""
        shared = {"views": self.views, "families": self.families, "version": __version__, "gate": self.gate,
                  "suites": self._suites, "counts": self._counts, "address": self.address, "path": path}  # fmt: skip
        root = "../" * path.count("/")
        return path, render.page(template or path.removesuffix(".html"), **shared, root=root, **content)

    @cached_property
    def families(self) -> list[Family]:
        """The boards by threat model and kind of model."""
        return families(self.views)

    def _kinds(self) -> list[tuple[str, list[Family]]]:
        """Return the families of each kind of model; kinds are never compared with each other."""
        titles = {Kind.CLASSIFICATION: "Models that classify", Kind.GENERATION: "Models that write"}
        titled = [(titles[kind], [one for one in self.families if one.kind == kind]) for kind in Kind]
        return [(title, members) for title, members in titled if members]

    @cached_property
    def _suites(self) -> str:
        names = list(dict.fromkeys(self.suites))  # two folders may be of one suite
        return f"suite{'s' if len(names) > 1 else ''} {', '.join(names)}"

    @cached_property
    def _counts(self) -> str:
        cells = len({row.cell_key for row in self.rows})
        return f"{counted(self._done, 'record')} of {counted(cells, 'cell')}"

    @cached_property
    def _done(self) -> int:
        """How many cells are done; one that belongs to several settings counts once."""
        return len({row.cell_key for row in self.rows if row.done})

    def _tiles(self) -> list[tuple[str, str]]:
        known = (("defenses", self.defenses), ("attacks", self.attacks), ("tasks", self.tasks), ("models", self.models))
        return [(name.removesuffix("s") if len(names) == 1 else name, str(len(names))) for name, names in known] + [
            ("records", f"{self._done:,}")
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
    def models(self) -> list[str]:
        """Every pre-trained model."""
        return sorted({row.model for row in self.rows})

    @cached_property
    def citations(self) -> list[str]:
        """What every method and task says of where it was published."""
        kinds = (("attack", self.attacks), ("defense", self.defenses), ("task", self.tasks))
        parts = [part for kind, names in kinds for name in names for part in plugins.about(kind, name)]
        return [part.citation for part in parts if part.citation]

    @cached_property
    def catalogue(self) -> list[Entry]:
        """Every page that stands for something, for the search."""
        entries = [Entry(view.name, "board", f"board/{view.slug}.html", view.what, view.name, len(view.results.rows))
                 for view in self.views]  # fmt: skip
        kinds = (("defense", self.defenses), ("attack", self.attacks), ("task", self.tasks), ("model", self.models))
        for kind, names in kinds:
            for name in names:
                summary = self._summary(kind, name)
                boards = [words for family in self.families if (words := _budgets(family, kind, name))]
                count = sum(view.counts[kind].get(name, 0) for view in self.views)
                entries.append(Entry(name, kind, f"{kind}/{slug(name)}.html", summary, "; ".join(boards), count))
        return entries

    def _summary(self, kind: str, name: str) -> str:
        """Return what something is, in a sentence or two."""
        if kind == "model":
            return models.list_models().get(name, "")
        stated = zoo.described(name, self.tasks_described).get("what", "") if kind == "task" else ""
        return stated or " ".join(part.summary for part in plugins.about(kind, name))

    def _board(self, view: BoardView) -> Iterator[tuple[str, str]]:
        places = view.results.places
        filters = [
            ("task", "Task", sorted({place.task for place in places})),
            ("attack", "Attack", list(dict.fromkeys(view.place_attack(place) for place in places))),
            ("model", "Model", sorted({place.model for place in places})),
        ]
        lines = view.detections if view.detects else view.standings
        needs = {need for line in lines for need in line.needs}
        ranked = {line.line for line in lines}
        content = {
            "view": view,
            "family": next(family for family in self.families if view in family.views),
            "most_seeds": max((len(seeds) for seeds in view.samples.values()), default=1),
            "filters": [one for one in filters if len(one[2]) > 1],
            "needs_there": [need for need in Needs if need in needs],
            "unranked": [view.label(line) for line in view.results.lines if line not in ranked],
        }
        path = f"board/{view.slug}"
        scripts: tuple[str, ...]
        if view.detects:
            scripts = ("address.js", "detection.js", "drawing.js", "detection-charts.js", "specs.js")
            yield self._page(f"{path}.html", "detection", title=view.name, scripts=scripts, charts=DETECTION_CHARTS,
                             **content)  # fmt: skip
            return
        scripts = ("address.js", "ranking.js", "board.js", "details.js", "drawing.js", "charts.js", "specs.js")
        yield self._page(f"{path}.html", "board", title=view.name, scripts=scripts, charts=CHARTS, **content)
        title = f"All cells: {view.board.words}"
        yield self._page(f"{path}-cells.html", "cells", title=title, scripts=("address.js", "cells.js"), **content)

    def _defense(self, name: str) -> tuple[str, str]:
        sections = subjects.defense_sections(self.views, name)
        return self._page(f"defense/{slug(name)}.html", "defense", title=name, name=name, sections=sections,
                          parts=plugins.about("defense", name))  # fmt: skip

    def _subject(self, kind: str, name: str) -> tuple[str, str]:
        content = subjects.place_content(self.families, kind, name)
        known: list[tuple[str, str]] = []
        what = ""  # a plugin says of itself what it is; files and models do not
        if kind == "task":
            described = zoo.described(name, self.tasks_described)
            known, what = subjects.task_facts(name, self.rows, described), described.get("what", "")
        elif kind == "model":
            known, what = subjects.model_facts(name, self.rows), self._summary(kind, name)
        return self._page(f"{kind}/{slug(name)}.html", "subject", title=name, known=known, what=what,
                          scripts=("address.js", "budgets.js"), parts=plugins.about(kind, name), **content)  # fmt: skip


def _budgets(family: Family, kind: str, name: str) -> str:
    """Return a threat model with the budgets of labels for which it has cells; nothing where there are none."""
    labels = [view.board.labels for view in family.views if view.counts[kind].get(name)]
    if not any(labels):
        return family.name if labels else ""
    return f"{family.name} ({', '.join(map(str, labels))} labels)"


def _guide(views: Sequence[BoardView]) -> list[tuple[str, str]]:
    """Return the columns of the boards with their meaning; those of measures only where a suite asked for them."""
    known = frozenset[str]().union(*(view.results.known_metrics for view in views))
    every = ranking_first(shown(Show.SITE_BOARD | Show.SITE_CELLS))
    metrics = [metric for metric in every if not metric.measure or metric.name in known]
    columns = []
    for column in (facts.RANK, *metrics, facts.MATCHED, facts.LABELS, facts.TIME, facts.PLACES, facts.SEEDS):
        meaning = f"{column.stands_for}: {column.meaning}" if column.stands_for else column.meaning
        better = f" {column.direction.capitalize()}." if isinstance(column, Metric) and column.better else ""
        columns.append((column.heading, f"{meaning[0].upper()}{meaning[1:]}.{better}"))
    return columns
