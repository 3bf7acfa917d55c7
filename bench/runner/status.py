"""What is done, running, waiting and failed, from the store alone, while others run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from bench.runner.jobs import Job
from bench.runner.progress import duration
from bench.store import ClaimInfo, Store


@dataclass(frozen=True)
class Status:
    """Where a set of jobs stands.

    Attributes:
        done: results that are there.
        waiting: jobs that nobody is at work on.
        running: jobs that somebody is at work on, and who.
        failed: jobs with a stored failure, and the error.
        seconds_left: estimate from the jobs' costs and the number of workers; None where nobody works.
    """

    done: int
    waiting: int
    running: tuple[tuple[Job, ClaimInfo], ...]
    failed: tuple[tuple[Job, str], ...]
    seconds_left: float | None


def status(jobs: Sequence[Job], store: Store) -> Status:
    """Read the state of jobs from the store."""
    records, artifacts, failures = store.keys_of_records(), store.keys_of_artifacts(), store.keys_of_failures()
    claims = {claim.key: claim for claim in store.claims() if claim.alive}
    done, waiting, left = 0, 0, 0.0
    running, failed = [], []
    for job in jobs:
        if job.key in (artifacts if job.kind == "victim" else records):
            done += 1
        elif job.key in claims:
            running.append((job, claims[job.key]))
            left += job.cost
        elif job.key in failures:
            failed.append((job, str((store.failure(job.key) or {}).get("error", "unknown"))))
        else:
            waiting += 1
            left += job.cost
    return Status(done, waiting, tuple(running), tuple(failed), left / len(running) if running else None)


def render_status(found: Status) -> RenderableType:
    """Return the state for a terminal."""
    left = "" if found.seconds_left is None else f", about {duration(found.seconds_left)} left"
    head = f"done {found.done}, running {len(found.running)}, waiting {found.waiting}, failed {len(found.failed)}{left}"
    parts: list[RenderableType] = [head]
    if found.running:
        table = Table("running", "who", "for", box=None, pad_edge=False, header_style="bold")
        for job, claim in found.running:
            since = duration(max(0.0, time.time() - claim.since))
            table.add_row(escape(job.label), escape(f"{claim.host}:{claim.pid}"), since)
        parts.append(table)
    if found.failed:
        table = Table("failed", "error", box=None, pad_edge=False, header_style="bold")
        for job, error in found.failed:
            table.add_row(escape(job.label), escape(error))
        parts.append(table)
    return Group(*parts)
