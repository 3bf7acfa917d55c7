"""What is done, running, waiting and failed, from the store alone, while others run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.runner.estimates import Estimate
from bench.runner.jobs import Job
from bench.runner.progress import duration
from bench.runner.survey import wanted
from bench.store import LockInfo, Store

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST_ROWS = 40  # of a table; the rest is counted


@dataclass(frozen=True)
class Status:
    """Where a set of jobs stands.

    Attributes:
        done: results that are there.
        waiting: jobs that nobody is at work on; victims whose cells are all there are none of them.
        running: jobs that somebody is at work on, and who.
        failed: jobs with a stored failure, and the error.
        seconds_left: estimate from measured durations and the number of workers; None where nobody works.
    """

    done: int
    waiting: int
    running: tuple[tuple[Job, LockInfo], ...]
    failed: tuple[tuple[Job, str], ...]
    seconds_left: float | None


def status(jobs: Sequence[Job], store: Store) -> Status:
    """Read the state of jobs from the store."""
    records, artifacts, failures = store.keys_of_records(), store.keys_of_artifacts(), store.keys_of_failures()
    locks = {lock.key: lock for lock in store.locks() if lock.alive}
    there = {job.key for job in jobs if job.key in (artifacts if job.kind == "victim" else records)}
    to_do = wanted(jobs, there | artifacts)
    running, failed, open_jobs = [], [], []
    for job in jobs:
        if job.key in there or (job.key not in to_do and job.key not in locks):
            continue
        if job.key in locks:
            running.append((job, locks[job.key]))
        elif job.key in failures:
            failed.append((job, str((store.failure(job.key) or {}).get("error", "unknown"))))
            continue
        open_jobs.append(job)
    left = None
    if running:
        estimate = Estimate.of_store(jobs, store, there)
        left = sum(estimate.seconds(job.kind, job.cost) for job in open_jobs) / len(running)
    return Status(len(there), len(open_jobs) - len(running), tuple(running), tuple(failed), left)


def render_status(found: Status) -> RenderableType:
    """Return the state for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    left = "" if found.seconds_left is None else _until(found.seconds_left)
    head = f"done {found.done}, running {len(found.running)}, waiting {found.waiting}, failed {len(found.failed)}{left}"
    parts: list[RenderableType] = [head]
    if found.running:
        table = Table("running", "who", "for", box=None, pad_edge=False, header_style="bold")
        for job, lock in found.running[:MOST_ROWS]:
            since = duration(max(0.0, time.time() - lock.since))
            table.add_row(Text(job.label), Text(f"{lock.host}:{lock.pid}"), since)
        parts.append(table)
    if found.failed:
        table = Table("failed", "error", box=None, pad_edge=False, header_style="bold")
        for job, error in found.failed[:MOST_ROWS]:
            table.add_row(Text(job.label), Text(error))
        parts.append(table)
    hidden = max(0, len(found.running) - MOST_ROWS) + max(0, len(found.failed) - MOST_ROWS)
    if hidden:
        parts.append(f"... and {hidden} more")
    return Group(*parts)


def _until(seconds: float) -> str:
    end = time.time() + seconds
    clock = time.strftime("%H:%M" if seconds < 43_200 else "%a %H:%M", time.localtime(end))
    return f"; about {duration(seconds)} left, until {clock}"
