"""What is done, running, waiting and failed, from the store alone, also while others run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.runner.estimates import Estimate
from bench.runner.jobs import Job
from bench.runner.progress import duration
from bench.runner.survey import error_of, keys_to_do
from bench.store import LockInfo, Store
from bench.store.words import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST_ROWS = 40  # of a table; the rest is counted


@dataclass(frozen=True)
class Status:
    """Where a set of jobs stands.

    Attributes:
        done: number of results in the store.
        victims: how many of them are victims; the others are cells.
        running: jobs in progress, and who works on them.
        failed: jobs with a stored failure, and the error.
        unfinished: the running jobs and those that nobody works on yet, without victims whose cells are all finished.
        seconds_left: estimate from measured durations and the number of workers; None while nobody works.
    """

    done: int
    victims: int
    running: tuple[tuple[Job, LockInfo], ...]
    failed: tuple[tuple[Job, str], ...]
    unfinished: tuple[Job, ...]
    seconds_left: float | None

    @property
    def waiting(self) -> int:
        """Number of jobs that nobody works on yet."""
        return len(self.unfinished) - len(self.running)


def status(jobs: Sequence[Job], store: Store) -> Status:
    """Read the state of jobs from the store."""
    records, artifacts, failures = store.keys_of_records(), store.keys_of_artifacts(), store.keys_of_failures()
    locks = {lock.key: lock for lock in store.locks() if lock.alive}
    finished = {job.key for job in jobs if job.key in (artifacts if job.kind == "victim" else records)}
    to_do = keys_to_do(jobs, finished | artifacts)
    running, failed, unfinished = [], [], []
    for job in jobs:
        if job.key in finished or (job.key not in to_do and job.key not in locks):
            continue
        if job.key in locks:
            running.append((job, locks[job.key]))
        elif job.key in failures:
            failed.append((job, error_of(job, store)))
            continue
        unfinished.append(job)
    left = None
    if running:
        estimate = Estimate.of_store(jobs, store, finished)
        left = sum(estimate.seconds(job.kind, job.cost) for job in unfinished) / len(running)
    victims = sum(job.kind == "victim" for job in jobs if job.key in finished)
    return Status(len(finished), victims, tuple(running), tuple(failed), tuple(unfinished), left)


def render_status(state: Status) -> RenderableType:
    """Return the state for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    left = "" if state.seconds_left is None else _until(state.seconds_left)
    done = f"{counted(state.victims, 'victim')} and {counted(state.done - state.victims, 'cell')}"
    head = f"done {done}, running {len(state.running)}, waiting {state.waiting}, failed {len(state.failed)}{left}"
    parts: list[RenderableType] = [head]
    if state.running:
        table = Table("running", "who", "for", box=None, pad_edge=False, header_style="bold")
        for job, lock in state.running[:MOST_ROWS]:
            since = duration(max(0.0, time.time() - lock.since))
            table.add_row(Text(job.label), Text(f"{lock.host}:{lock.pid}"), since)
        parts.append(table)
    if state.failed:
        table = Table("failed", "error", box=None, pad_edge=False, header_style="bold")
        for job, error in state.failed[:MOST_ROWS]:
            table.add_row(Text(job.label), Text(error))
        parts.append(table)
    hidden = max(0, len(state.running) - MOST_ROWS) + max(0, len(state.failed) - MOST_ROWS)
    if hidden:
        parts.append(f"... and {hidden} more")
    return Group(*parts)


def _until(seconds: float) -> str:
    end = time.time() + seconds
    clock = time.strftime("%H:%M" if seconds < 43_200 else "%a %H:%M", time.localtime(end))
    return f"; about {duration(seconds)} left, until {clock}"
