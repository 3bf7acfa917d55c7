"""Which jobs are still to do, by what the store holds."""

from __future__ import annotations

from collections.abc import Container, Sequence, Set
from dataclasses import dataclass

from bench.runner.jobs import Job
from bench.runner.worker import present
from bench.store import Store, Unreadable


@dataclass(frozen=True)
class Survey:
    """Where a set of jobs stands before a run.

    Attributes:
        to_do: jobs without a result and the victims that they need, even a victim that failed before.
        finished: keys of the jobs whose result is in the store.
        failed: the error of every job that failed before, or whose record cannot be read, except victims that nothing
            needs any more.
    """

    to_do: list[Job]
    finished: set[str]
    failed: dict[str, str]


def survey(jobs: Sequence[Job], store: Store) -> Survey:
    """Compare jobs with the store.

    Records are read and checked. Victims are only looked up by name: hashing hundreds of models would take long, and
    the worker that loads one checks it anyway. A victim is to do only if a job that is to do needs it, or if no job
    needs it at all.

    Raises:
        ValueError: a job needs something that is neither among the jobs nor in the store.
    """
    records, artifacts, failures = store.keys_of_records(), store.keys_of_artifacts(), store.keys_of_failures()
    finished = {job.key for job in jobs if job.kind == "victim" and job.key in artifacts}
    unreadable: dict[str, str] = {}
    for job in jobs:
        try:
            if job.kind == "cell" and job.key in records and present(job, store):
                finished.add(job.key)
        except Unreadable as error:
            unreadable[job.key] = str(error)
    failed = {job.key: error_of(job, store) for job in jobs if job.key in failures and job.key not in finished}
    failed |= unreadable
    keys = keys_to_do(jobs, finished | artifacts, leave=failed)
    needed = {need for job in jobs for need in job.needs}
    still_needed = {need for job in jobs if job.key not in finished for need in job.needs}
    idle = needed - still_needed  # victims whose cells are all finished
    return Survey(
        to_do=[job for job in jobs if job.key in keys],
        finished=finished,
        failed={key: error for key, error in failed.items() if key not in idle},
    )


def keys_to_do(jobs: Sequence[Job], stored: Set[str], *, leave: Container[str] = ()) -> set[str]:
    """Return the keys of jobs to do: cells, victims that no job needs at all, and the victims that these need.

    Args:
        jobs: all of them.
        stored: keys of the results in the store, also of victims that are not among the jobs.
        leave: keys of cells to leave out, with the victims that only they need.

    Raises:
        ValueError: a job needs something that is neither in the store nor among the jobs.
    """
    by_key = {job.key: job for job in jobs}
    needed = {need for job in jobs for need in job.needs}
    waiting = [
        job
        for job in jobs
        if job.key not in stored and (job.key not in leave if job.kind == "cell" else job.key not in needed)
    ]
    keys: set[str] = set()
    while waiting:
        job = waiting.pop()
        keys.add(job.key)
        for need in job.needs:
            if need in stored or need in keys:
                continue
            if need not in by_key:
                raise ValueError(f"{job.label} needs {need}, which is neither in the store nor among the jobs")
            waiting.append(by_key[need])
    return keys


def error_of(job: Job, store: Store) -> str:
    """Return why a job failed before, or that this cannot be read."""
    try:
        return str((store.failure(job.key) or {}).get("error", "failed before"))
    except Unreadable as error:
        return str(error)
