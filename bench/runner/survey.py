"""What is still to be done, from the store."""

from __future__ import annotations

from collections.abc import Sequence
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
    by_key = {job.key: job for job in jobs}
    needed = {need for job in jobs for need in job.needs}
    wanted = [
        job
        for job in jobs
        if job.key not in there and (job.key not in failed if job.kind == "cell" else job.key not in needed)
    ]
    open_keys: set[str] = set()
    while wanted:
        job = wanted.pop()
        open_keys.add(job.key)
        for need in job.needs:
            if need in there or need in open_keys or need in artifacts:
                continue
            if need not in by_key:
                raise ValueError(f"{job.label} needs {need}, which is neither in the store nor among the jobs")
            wanted.append(by_key[need])
    missed = {need for job in jobs if job.key not in there for need in job.needs}
    idle = needed - missed  # victims whose cells are all there
    return Survey(
        open=[job for job in jobs if job.key in open_keys],
        there=there,
        failed={key: error for key, error in failed.items() if key not in idle},
    )


def _error(store: Store, job: Job) -> str:
    return str((store.failure(job.key) or {}).get("error", "failed before"))
