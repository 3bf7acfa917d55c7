"""What is still to be done, from the store."""

from __future__ import annotations

from collections.abc import Container, Sequence, Set
from dataclasses import dataclass

from bench.runner.jobs import Job
from bench.runner.worker import present
from bench.store import Store


@dataclass(frozen=True)
class Survey:
    """Where a set of jobs stands before a run.

    Attributes:
        open: jobs without a result, and the victims that they need; a victim may be among them that failed before.
        there: keys of the jobs whose result is there.
        failed: the error of every job that failed before, except victims that nothing needs any more.
    """

    open: list[Job]
    there: set[str]
    failed: dict[str, str]


def survey(jobs: Sequence[Job], store: Store) -> Survey:
    """Compare jobs with the store.

    Records are read and checked. Victims are found by name only: hashing hundreds of models would take long, and the
    worker that loads one checks it anyway. A victim is open only where an open job needs it, or no job does at all.

    Raises:
        ValueError: a job needs something that is neither among the jobs nor in the store.
    """
    records, artifacts, failures = store.keys_of_records(), store.keys_of_artifacts(), store.keys_of_failures()
    there = {job.key for job in jobs if job.kind == "cell" and job.key in records and present(job, store)}
    there |= {job.key for job in jobs if job.kind == "victim" and job.key in artifacts}
    failed = {job.key: _error(store, job) for job in jobs if job.key in failures and job.key not in there}
    open_keys = wanted(jobs, there | artifacts, leave=failed)
    needed = {need for job in jobs for need in job.needs}
    missed = {need for job in jobs if job.key not in there for need in job.needs}
    idle = needed - missed  # victims whose cells are all there
    return Survey(
        open=[job for job in jobs if job.key in open_keys],
        there=there,
        failed={key: error for key, error in failed.items() if key not in idle},
    )


def wanted(jobs: Sequence[Job], there: Set[str], *, leave: Container[str] = ()) -> set[str]:
    """Return the keys of jobs to do: cells, victims that no job needs, and the victims that those to be done need.

    Args:
        jobs: all of them.
        there: keys of what is there, of victims beyond the jobs too.
        leave: cells that are not to be done, nor anything for them.

    Raises:
        ValueError: a job needs something that is neither there nor among the jobs.
    """
    by_key = {job.key: job for job in jobs}
    needed = {need for job in jobs for need in job.needs}
    left = [
        job
        for job in jobs
        if job.key not in there and (job.key not in leave if job.kind == "cell" else job.key not in needed)
    ]
    found: set[str] = set()
    while left:
        job = left.pop()
        found.add(job.key)
        for need in job.needs:
            if need in there or need in found:
                continue
            if need not in by_key:
                raise ValueError(f"{job.label} needs {need}, which is neither in the store nor among the jobs")
            left.append(by_key[need])
    return found


def _error(store: Store, job: Job) -> str:
    return str((store.failure(job.key) or {}).get("error", "failed before"))
