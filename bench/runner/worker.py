"""What happens inside a worker: claim a job, do it, and turn whatever goes wrong into a stored failure."""

from __future__ import annotations

import logging
import os
import signal
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.errors import RequestError
from bench.runner.jobs import Execute, Job
from bench.store import Store, StoreFull, StoreGone, StoreReadOnly

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
Ending = Literal["found", "done", "n/a", "failed", "held"]


@dataclass
class Worker:
    """Where a job runs.

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda``; a GPU is pinned by the environment, so ``cuda`` is always the right one.
        slot: number of the worker, for people.
        cache: what a job wants to keep for the next one in this process.
    """

    device: str = "auto"
    slot: int = 0
    cache: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """How an attempt at a job ended."""

    ending: Ending
    seconds: float = 0.0
    error: str = ""


_worker = Worker()


def pin(device: str, slot: int, environment: dict[str, str]) -> None:
    """Set up this process before anything imports torch. Ctrl-C is for the runner, which ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(environment)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    _worker.device, _worker.slot = device, slot
    _worker.cache.clear()


def attempt_here(job: Job, store: Store, execute: Execute) -> Result:
    """Try a job in a pinned process."""
    return attempt(job, store, execute, _worker)


def attempt(job: Job, store: Store, execute: Execute, worker: Worker) -> Result:
    """Claim a job and do it. An error is stored as a failure; only trouble with the store itself is raised."""
    with_claim = store.claim(job.key)
    if with_claim is None:
        return Result("held")
    with with_claim:
        if present(job, store):
            return Result("found")
        started = time.perf_counter()
        try:
            ending = execute(job, store, worker)
        except (StoreFull, StoreGone, StoreReadOnly):
            raise
        except Exception as error:  # a plugin may raise anything; the grid goes on and the row says what happened
            seconds = time.perf_counter() - started
            message = one_line(error)
            store.put_failure(job.key, failure(job, message, traceback.format_exc(), seconds))
            return Result("failed", seconds, message)
        return Result(ending, time.perf_counter() - started)


def present(job: Job, store: Store) -> bool:
    """Whether the store has the result of a job, whole."""
    return (store.artifact(job.key) if job.kind == "victim" else store.record(job.key)) is not None


def failure(job: Job, error: str, trace: str = "", seconds: float = 0.0) -> dict[str, Any]:
    """Return what is stored of a failed attempt."""
    return {
        "schema": 1,
        "key": job.key,
        "kind": job.kind,
        "status": "failed",
        "label": job.label,
        "error": error,
        "traceback": trace,
        "seconds": {"attempt": seconds},
    }


def one_line(error: BaseException) -> str:
    """Return an error as one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, RequestError) else f"{type(error).__name__}: {text}"
