"""Which jobs are still to do, by what the store holds."""

from __future__ import annotations

from collections.abc import Container, Sequence, Set
from dataclasses import dataclass

from bench.runner.jobs import Job
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

    Records are read and checked, each once for as long as its file does not change, see :mod:`bench.store.table`.
    Victims are only looked up by name: hashing hundreds of models would take long, and the worker that loads one checks
    it anyway. A victim is to do only if a job that is to do needs it, or if no job needs it at all.

    Raises:
        ValueError: a job needs something that is neither among the jobs nor in the store.
    """
    artifacts, failures = store.keys_of_artifacts(), store.keys_of_failures()
    records = store.summaries([job.key for job in jobs if job.kind == "cell"], fields=())
    finished = {job.key for job in jobs if job.kind == "victim" and job.key in artifacts} | set(records.keys)
    failed = {job.key: error_of(job, store) for job in jobs if job.key in failures and job.key not in finished}
    failed |= records.unreadable
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
