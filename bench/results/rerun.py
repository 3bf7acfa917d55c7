"""``doorbench submit --rerun``: random cells of a submission run again, since made-up predictions look like others."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import runner
from bench.errors import RequestError
from bench.experiment import work
from bench.experiment.from_recipe import outline, outline_of_cell
from bench.experiment.metrics import MEASURED
from bench.experiment.plan import plan_of
from bench.experiment.result_store import ResultStore
from bench.results import submission
from bench.runner import Event, Job
from bench.suites.suite import Suite

TOLERANCE = 5.0  # points; a victim that is trained on another machine is another model


@dataclass(frozen=True)
class Compared:
    """A cell that was run again.

    Attributes:
        label: of the cell.
        metrics: by name what the record says and what came out here, in percent.
    """

    label: str
    metrics: Mapping[str, tuple[float | None, float | None]]

    @property
    def agrees(self) -> bool:
        """Whether no metric differs by more than the tolerance."""
        pairs = self.metrics.values()
        return all(a == b if a is None or b is None else abs(a - b) <= TOLERANCE for a, b in pairs)

    def __str__(self) -> str:
        """Return one line."""
        words = (f"{name} {_points(stated)}, here {_points(here)}" for name, (stated, here) in self.metrics.items())
        return f"{'agrees ' if self.agrees else 'DIFFERS'}  {self.label}: {'; '.join(words)}"


@dataclass(frozen=True)
class Again:
    """Cells to run again.

    Attributes:
        stated: the metrics in the records, by the key that the cell has here.
        jobs: the cells and the victims that they need.
    """

    stated: dict[str, Mapping[str, float | None]]
    jobs: list[Job]

    def run(self, folder: Path | None, *, device: str, on_event: Callable[[Event], None]) -> list[Compared]:
        """Run the cells and compare.

        Args:
            folder: the store to use; None for one that is removed afterwards.
            device: ``auto``, ``cpu`` or ``cuda``.
            on_event: called with each event of the run.

        Raises:
            RequestError: a cell failed.
        """
        with TemporaryDirectory() as scratch:
            store = ResultStore(folder or Path(scratch))
            options: dict[str, Any] = {"device": device, "on_event": on_event}
            runner.run(self.jobs, store=store, execute=work.execute, **options)
            return [self._compared(job, store) for job in self.jobs if job.kind == "cell"]

    def _compared(self, job: Job, store: ResultStore) -> Compared:
        record = store.result(job.key)
        if record is None or record.metrics is None:
            raise RequestError(f"{job.label} has no numbers here: {store.error(job.key) or 'it makes no sense'}.")
        names = [name for name, metric in MEASURED.items() if metric.core]
        stated, here = self.stated[job.key], record.metrics
        pairs = {name: (stated.get(name), here.get(name)) for name in names}
        return Compared(job.label, {name: pair for name, pair in pairs.items() if pair != (None, None)})


def prepare(folder: Path, *, count: int, suite: Suite | None) -> Again:
    """Choose cells that nobody can foresee.

    Args:
        folder: of the submission.
        count: how many cells.
        suite: of the records; by default that of ``suite.yaml`` in the folder.

    Raises:
        RequestError: the suite is not known, its data or model are not here, or no record is of one of its cells.
    """
    suite = suite or submission.suite_of(folder)
    if suite is None:
        raise RequestError(f"there is no suite.yaml in {folder}; name the suite of the records with --suite.")
    stated = {
        outline(record.recipe.document()): record.metrics
        for record in submission.records(folder)
        if record.metrics is not None
    }
    plan = plan_of(suite, yes=False)
    keys = {key: metrics for key, cell in plan.cells.items() if (metrics := stated.get(outline_of_cell(cell)))}
    if not keys:
        raise RequestError(f"no record in {folder} is of a cell of the suite {suite.name} that has numbers.")
    chosen = set(random.SystemRandom().sample(sorted(keys), min(count, len(keys))))
    by_key = {job.key: job for job in plan.jobs}
    wanted, waiting = set[str](), list(chosen)
    while waiting:
        if (key := waiting.pop()) not in wanted:
            wanted.add(key)
            waiting += by_key[key].needs
    return Again({key: keys[key] for key in chosen}, [job for job in plan.jobs if job.key in wanted])


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
