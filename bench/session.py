"""One suite and one store: what the commands do with them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError
from bench.experiment import other_library_versions, recipes
from bench.experiment.plan import Plan, plan_of
from bench.experiment.result_store import ResultStore
from bench.keys import key_of
from bench.store import StoreMissing, outputs, place_of
from bench.store.words import counted
from bench.suites import suite as suites
from bench.suites.suite import in_yaml

if TYPE_CHECKING:
    from bench.experiment.kept import AnyRecord
    from bench.report.rows.row import Row
    from bench.runner import Summary
    from bench.suites.suite import Gate


class Shown(ABC):
    """The cells of a suite with their records, wherever these are."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the suite."""

    @property
    @abstractmethod
    def gate(self) -> Gate:
        """When an attack counts as implanted."""

    @abstractmethod
    def rows(self) -> list[Row]:
        """Return one row for each cell, floors and ceilings included."""

    def remembered(self, question: Sequence[object], answer: Callable[[Sequence[Row]], str]) -> str:
        """Return what is made of the rows, which a store may have kept since the same was asked of the same records.

        Args:
            question: everything that the answer follows from beside the rows.
            answer: makes it.
        """
        return answer(self.rows())

    def examples(self) -> Mapping[str, Sequence[Mapping[str, str]]]:
        """Return what models that write said to some prompts, by key of the cell."""
        return {}

    def tasks(self) -> Mapping[str, Mapping[str, str]]:
        """Return what is said of tasks on files, by name: what they are, their source and licence."""
        return {}

    def export(self, format: str, out: Path | None) -> str | None:
        """Return the cells as text, or write them to a file."""
        from bench import report

        return report.export(report.frame(self.rows(), gate=self.gate), format=format, path=out)

    def table(self, format: str) -> str:
        """Return both tables as text; LaTeX is a document that compiles alone."""
        from bench import report

        return self.remembered(
            ("table", format), lambda rows: report.table(rows, format=format, gate=self.gate, standalone=True)
        )

    def explain(self, cell: str) -> str:
        """Say in words how a number came about."""
        from bench import report

        return report.explain(self.rows(), cell, gate=self.gate)


MANY = 5000  # cells of a suite from which on the store keeps what is made of them
LAST = "last"  # stands for the suite that was run last with a store, with its settings
_LAST_RUN = ("reports", "last-run.json")  # in the folder of the store


@contextmanager
def remembering(name: str, settings: Sequence[str], folder: Path | None) -> Iterator[None]:
    """Note what is run, so that later commands can call it ``last``; a run that is refused leaves the one before."""
    name, settings = recalled(name, settings, folder)
    suite = str(Path(name).resolve()) if name not in suites.built_in() else name
    text = json.dumps({"suite": suite, "settings": list(settings)}, indent=1)
    path = place_of(folder).joinpath(*_LAST_RUN)
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    with suppress(RequestError, OSError):  # a finished store may be one that can only be read: nothing runs in it
        path.parent.mkdir(exist_ok=True)
        outputs.write(path, text + "\n")
    try:
        yield
    except RequestError:
        with suppress(RequestError, OSError):
            outputs.write(path, before)
        raise


def recalled(name: str, settings: Sequence[str], folder: Path | None) -> tuple[str, list[str]]:
    """Return a suite and settings as they are; for ``last``, those of the last run with a store, and then the given.

    Raises:
        RequestError: nothing was run with this store.
    """
    if name != LAST:
        return name, list(settings)
    path = place_of(folder).joinpath(*_LAST_RUN)
    try:
        last = json.loads(path.read_text(encoding="utf-8"))
        return str(last["suite"]), [*map(str, last["settings"]), *settings]
    except (OSError, ValueError, KeyError, TypeError):
        place = path.parent.parent
        raise RequestError(f"no suite was run with the store {place} yet, so 'last' names none; name one.") from None


@dataclass(frozen=True)
class Published(Shown):
    """A folder with the records of a suite, as ``doorbench publish`` writes it."""

    folder: Path

    @property
    def name(self) -> str:
        """That of the folder."""
        from bench.report.rows import records

        return records.name_of(self.folder)

    @property
    def gate(self) -> Gate:
        """Of the suite in the folder, or the default gate."""
        from bench.report.rows import records

        return records.gate_of(self.folder)

    def rows(self) -> list[Row]:
        """Return one row for each record."""
        from bench.report.rows import records
        from bench.report.rows.settings import disambiguate_tasks

        return disambiguate_tasks(records.load(self.folder))

    def examples(self) -> Mapping[str, Sequence[Mapping[str, str]]]:
        """Return those of ``examples.json`` in the folder."""
        from bench.report.rows import beside

        return beside.examples(self.folder)

    def tasks(self) -> Mapping[str, Mapping[str, str]]:
        """Return those of ``tasks.yaml`` in the folder."""
        from bench.report.rows import beside

        return beside.tasks(self.folder)


@dataclass(frozen=True)
class Session(Shown):
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
        """Read a suite, apply settings and open the store, which must be there.

        Options are attributes; ``yes``: however many cells the suite has.
        """
        name, settings = recalled(name, settings, folder)
        return cls(plan_of(suites.load(name, settings), yes=yes), ResultStore(folder, create=False), **options)

    @classmethod
    def open_all(
        cls,
        name: str,
        settings: Sequence[str],
        folder: Path | None,
        *,
        create: bool = False,
        yes: bool = False,
        **options: bool,
    ) -> list[Session]:
        """Do so with a suite, or with every suite of a collection; with ``create`` a store is made where none is."""
        name, settings = recalled(name, settings, folder)
        loaded = suites.load_all(name, settings)
        store = ResultStore(folder, create=create)
        return [cls(plan_of(suite, yes=yes), store, **options) for suite in loaded]

    @property
    def name(self) -> str:
        """Of the suite."""
        return self.plan.suite.name

    @property
    def gate(self) -> Gate:
        """Of the suite."""
        return self.plan.suite.gate

    @property
    def size(self) -> str:
        """How many victims and cells it has, in words."""
        victims, cells = counted(len(self.plan.victims), "victim"), counted(len(self.plan.cells), "cell")
        listed = sum(cell.listed for cell in self.plan.cells.values())
        rest = f"; its tables show {listed}, the rest are floors and ceilings" if listed < len(self.plan.cells) else ""
        return f"suite {self.plan.suite.name}: {victims}, {cells}{rest}"

    def run(self, *, again: bool, **options: Any) -> Summary:
        """Run what is missing; with ``again`` also what failed. Options are those of :func:`bench.runner.run`."""
        from bench import runner
        from bench.experiment import work

        self.plan.check_models()
        if again:
            for job in self.plan.jobs:
                self.store.drop_failure(job.key)
        return runner.run(self.plan.jobs, store=self.store, execute=work.execute, **options)

    def forecast(self, *, workers: int | None, device: str) -> Iterator[str]:
        """Say in words what a run would do, and how long that takes on this machine, line by line."""
        from bench import runner
        from bench.experiment import forecast

        self.plan.check_models()
        status = runner.status(self.plan.jobs, self.store)
        done, failed, running = status.done, len(status.failed), len(status.running)
        yield self.size
        yield f"done {done}, failed {failed}, to do {status.waiting}, running elsewhere {running}"
        if status.unfinished:
            yield forecast.duration(self.plan, self.store, status, workers=workers or 1, device=device)

    def remembered(self, question: Sequence[object], answer: Callable[[Sequence[Row]], str]) -> str:
        """Return what is made of the rows. Of a large suite the store keeps it, as long as no record changes."""
        from bench.report.rows.bulk import bulk

        if self.any_libraries or len(self.plan.cells) < MANY:
            return answer(self.rows())
        before = self._state()
        key = key_of({"state": before, "question": [str(part) for part in question]})
        if (kept := self.store.answer(key)) is not None:
            return kept
        with bulk():
            rows, whole = self._read()
            made = answer(rows)
        if whole and self._state() == before:
            self.store.keep_answer(key, made)
        return made

    def _state(self) -> str:
        from bench.report.rows.state import state

        return state(self.plan.cells, self.store, suite=in_yaml(self.plan.suite))

    def rows(self) -> list[Row]:
        """Return one row for each cell, floors and ceilings included, with its record if there is one."""
        from bench.report.rows.bulk import bulk

        with bulk():
            return self._read()[0]

    def _read(self) -> tuple[list[Row], bool]:
        """Return the rows, and whether every record that has a file could be read."""
        from bench.report.rows import build
        from bench.report.rows.settings import disambiguate_tasks
        from bench.report.rows.trainings import merge_victim_keys

        cells = self.plan.cells
        if self.any_libraries:
            records: Mapping[str, AnyRecord] = other_library_versions.shown(cells, self.store)
            unreadable: Mapping[str, str] = {}
        else:
            kept = self.store.kept(cells)
            records, unreadable = kept.records, kept.unreadable
        failures = self.store.errors(cells) | dict(unreadable)
        rows = build.of_cells(cells, suite=self.plan.suite.name, records=records, failures=failures)
        victims = (recipes.victim_key(cell.victim) for cell in cells.values())
        return disambiguate_tasks(merge_victim_keys(list(zip(rows, victims, strict=True)))), not unreadable

    def examples(self, *, generated_only: bool = False) -> Mapping[str, Sequence[Mapping[str, str]]]:
        """Return them from the records and victims in the store; see :mod:`bench.analysis.responses`."""
        from bench.analysis import responses

        return responses.by_cell(self.plan.cells, self.store, generated_only=generated_only)

    def figures(self, folder: Path) -> list[Path]:
        """Draw every figure that the cells allow, and those of the suite's study."""
        from bench import report

        with outputs.all_or_none():
            drawn = report.draw(self.rows(), folder=folder, gate=self.plan.suite.gate)
            return drawn + self.study(folder)

    def study(self, folder: Path) -> list[Path]:
        """Draw the figures of weights that the suite asks for, and write their data beside them."""
        from bench.analysis import studies
        from bench.report.figures import style, weights
        from bench.report.rows.frames import without_formulas

        written: list[Path] = []
        for spec, stored in studies.victims(self.plan, self.store) if self.plan.suite.study else ():
            name = f"{self.plan.suite.study}-{studies.file_name(spec)}"
            if self.plan.suite.study == "word-scores":
                words = studies.word_scores(spec, stored)
                outputs.write(folder / f"{name}.csv", without_formulas(words).to_csv(index=False))
                written += style.save(weights.word_scores(words), folder / name)
                continue
            for cell in studies.purified_cells(self.plan, spec):
                grid, points = studies.landscape(cell, self.store)
                place = folder / f"{name}-{studies.plain(cell.defense_spec)}"
                outputs.write(place.with_suffix(".csv"), without_formulas(grid).to_csv(index=False))
                written += style.save(weights.landscape(grid, points), place)
        return written


@contextmanager
def before_a_run(
    name: str, settings: Sequence[str], folder: Path | None, *, yes: bool = False
) -> Iterator[tuple[list[Session], str]]:
    """Yield the sessions of a suite and where their store is; before a first run it is an empty one for the moment."""
    place = place_of(folder)
    try:
        opened = Session.open_all(name, settings, folder, yes=yes)
    except StoreMissing:
        with TemporaryDirectory() as empty:
            yield (
                Session.open_all(name, settings, Path(empty), create=True, yes=yes),
                f"{place}, which the run will make",
            )
    else:
        yield opened, str(place)


def in_folders(
    name: str, settings: Sequence[str], store: Path | None, **options: bool
) -> Iterator[tuple[Session, str]]:
    """Yield every suite of a name with where its files go in a folder: one of its own where there are several."""
    opened = Session.open_all(name, settings, store, **options)
    for one in opened:
        yield one, one.plan.suite.name if len(opened) > 1 else "."


def shown(name: str, settings: Sequence[str], store: Path | None, **options: bool) -> list[Shown]:
    """Return every suite of a name with its store, or every suite whose records lie in or below a folder.

    Raises:
        RequestError: there is neither, or settings are to change what a folder holds.
    """
    if not Path(name).is_dir() or name in suites.built_in():
        return [*Session.open_all(name, settings, store, **options)]
    if settings:
        raise RequestError(f"{name} is a folder of records, which no setting changes; leave out --set and --profile.")
    from bench.report.rows import records

    return [Published(folder) for folder in records.folders_of(Path(name))]


def shown_alone(name: str, settings: Sequence[str], store: Path | None, **options: bool) -> Shown:
    """Return the one suite of a name or folder.

    Raises:
        RequestError: there is none, or there are several.
    """
    opened = shown(name, settings, store, **options)
    if len(opened) > 1:
        choices = (str(one.folder) if isinstance(one, Published) else one.name for one in opened)
        raise RequestError(f"{name} stands for several suites; name one: {', '.join(choices)}.")
    return opened[0]


def build_site(names: Sequence[str], folder: Path | None, *, out: Path, address: str = "") -> Path:
    """Write the site of suites, each a suite's name, its file, or a folder with its records; returns the first page.

    ``address`` is where a host will show it.
    """
    from bench.report import site

    opened = [one for name in names for one in shown(name, (), folder)]
    sources = [site.Source(one.name, one.rows(), one.gate, one.examples(), one.tasks()) for one in opened]
    return site.build(sources, folder=out, address=address)
