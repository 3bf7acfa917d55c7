"""One suite and one store: what the commands do with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.experiment import other_library_versions, recipes
from bench.experiment.plan import Plan, plan_of
from bench.experiment.result_store import ResultStore
from bench.store import Unreadable
from bench.suites import suite as suites

if TYPE_CHECKING:
    from bench.report.rows.row import Row
    from bench.runner import Summary


@dataclass(frozen=True)
class Session:
    """A plan and the store that holds its results.

    Attributes:
        plan: of the suite.
        store: where records and victims are.
        any_libraries: whether cells show records from other versions of the libraries too, see
            :mod:`bench.experiment.other_library_versions`.
    """

    plan: Plan
    store: ResultStore
    any_libraries: bool = False

    @classmethod
    def open(
        cls, name: str, settings: Sequence[str], folder: Path | None, *, yes: bool = False, **options: bool
    ) -> Session:
        """Read a suite, apply settings and open the store; options are attributes. ``yes``: however many cells."""
        return cls(plan_of(suites.load(name, settings), yes=yes), ResultStore(folder), **options)

    @classmethod
    def open_all(
        cls, name: str, settings: Sequence[str], folder: Path | None, *, yes: bool = False, **options: bool
    ) -> list[Session]:
        """Do so with a suite, or with every suite of a collection."""
        store = ResultStore(folder)
        return [cls(plan_of(suite, yes=yes), store, **options) for suite in suites.load_all(name, settings)]

    def run(self, *, again: bool, **options: Any) -> Summary:
        """Run what is missing; with ``again`` also what failed. Options are those of :func:`bench.runner.run`."""
        from bench import runner
        from bench.experiment import work

        if again:
            for job in self.plan.jobs:
                self.store.drop_failure(job.key)
        return runner.run(self.plan.jobs, store=self.store, execute=work.execute, **options)

    def forecast(self) -> str:
        """Say in words what a run would do."""
        from bench import runner

        found = runner.status(self.plan.jobs, self.store)
        victims = len(self.plan.victims)
        done, failed, running = found.done, len(found.failed), len(found.running)
        lines = [
            f"suite {self.plan.suite.name}: {victims} victims, {len(self.plan.cells)} cells "
            f"({sum(cell.listed for cell in self.plan.cells.values())} asked for, the rest are floors and ceilings)",
            f"store {self.store.root}",
            f"done {done}, failed {failed}, to do {found.waiting}, running elsewhere {running}",
        ]
        return "\n".join(lines)

    def rows(self) -> list[Row]:
        """Return one row for each cell, floors and ceilings included, with its record if there is one."""
        from bench.report.rows import build
        from bench.report.rows.settings import disambiguate_tasks
        from bench.report.rows.trainings import merge_victim_keys

        shown = other_library_versions.shown(self.plan.cells, self.store) if self.any_libraries else None
        rows = []
        for key, cell in self.plan.cells.items():
            try:
                record = self.store.result(key) if shown is None else shown.get(key)
                failure = self.store.error(key)
            except Unreadable as error:
                record, failure = None, str(error)
            rows.append(build.of_cell(cell, key=key, suite=self.plan.suite.name, record=record, failure=failure))
        victims = (recipes.victim_key(cell.victim) for cell in self.plan.cells.values())
        return disambiguate_tasks(merge_victim_keys(list(zip(rows, victims, strict=True))))

    def export(self, format: str, out: Path | None) -> str | None:
        """Return the cells as text, or write them to a file."""
        from bench import report

        return report.export(report.frame(self.rows(), gate=self.plan.suite.gate), format=format, path=out)

    def table(self, format: str) -> str:
        """Return both tables as text; LaTeX is a document that compiles alone."""
        from bench import report

        return report.table(self.rows(), format=format, gate=self.plan.suite.gate, standalone=True)

    def explain(self, cell: str) -> str:
        """Say in words how a number came about."""
        from bench import report

        return report.explain(self.rows(), cell, gate=self.plan.suite.gate)

    def figures(self, folder: Path) -> list[Path]:
        """Draw every figure that the cells allow, and those of the suite's study."""
        from bench import report

        drawn = report.draw(self.rows(), folder=folder, gate=self.plan.suite.gate)
        return drawn + self.study(folder)

    def study(self, folder: Path) -> list[Path]:
        """Draw the figures of weights that the suite asks for, and write their data beside them."""
        from bench.analysis import studies
        from bench.report.figures import style, weights

        written: list[Path] = []
        for spec, stored in studies.victims(self.plan, self.store) if self.plan.suite.study else ():
            name = f"{self.plan.suite.study}-{studies.file_name(spec)}"
            if self.plan.suite.study == "word-scores":
                words = studies.word_scores(spec, stored)
                words.to_csv(folder / f"{name}.csv", index=False)
                written += style.save(weights.word_scores(words), folder / name)
                continue
            for cell in studies.purified_cells(self.plan, spec):
                grid, points = studies.landscape(cell, self.store)
                place = folder / f"{name}-{studies.plain(cell.defense_spec)}"
                grid.to_csv(place.with_suffix(".csv"), index=False)
                written += style.save(weights.landscape(grid, points), place)
        return written


def in_folders(
    name: str, settings: Sequence[str], store: Path | None, **options: bool
) -> Iterator[tuple[Session, str]]:
    """Yield every suite of a name with where its files go in a folder: one of its own where there are several."""
    opened = Session.open_all(name, settings, store, **options)
    for one in opened:
        yield one, one.plan.suite.name if len(opened) > 1 else "."


def build_site(names: Sequence[str], folder: Path | None, *, out: Path) -> Path:
    """Write the site of suites, each a suite's name, its file, or a folder with its records; returns the first page."""
    from bench.report import site
    from bench.report.rows import records

    sources = []
    for name in names:
        if Path(name).is_dir():
            for part in records.folders_of(Path(name)):
                sources.append(site.Source(part.resolve().name, records.load(part), records.gate_of(part)))
        else:
            session = Session.open(name, (), folder)
            sources.append(site.Source(session.plan.suite.name, session.rows(), session.plan.suite.gate))
    return site.build(sources, folder=out)
