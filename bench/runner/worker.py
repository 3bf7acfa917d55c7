"""What happens inside a worker: lock a job, do it, and store whatever goes wrong as a failure."""

from __future__ import annotations

import logging
import os
import platform
import signal
import socket
import threading
import time
import traceback
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

from bench._version import __version__
from bench.errors import RequestError
from bench.runner.jobs import Execute, Job, Refused, Worker
from bench.store import Store, StoreError, StoreGone, StoreTrouble

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
Ending = Literal["found", "done", "n/a", "failed", "held", "missing", "lost", "trouble", "refused", "gone", "stop"]
LONGEST_TRACE = 20_000  # characters; the end of a traceback says most


class Stopped(BaseException):
    """The runner ends; the running job releases its lock on the way out."""


class TimeLimit(BaseException):
    """A job took too long. Not an Exception, so that no plugin catches it by mistake."""


@dataclass(frozen=True)
class Result:
    """How an attempt at a job ended.

    Attributes:
        ending: ``found``: the store had the result already; ``held``: another runner is working on the job;
            ``missing``: the store lacks some of its needs; ``lost``: out of memory, worth another try; ``trouble``: a
            call of the store failed, worth another try; ``refused``: this worker makes something else of the job than
            the runner means; ``gone``: the store has vanished; ``stop``: the store takes no more, so that nothing can
            go on.
        seconds: how long the job took.
        error: one line, if something went wrong.
        needs: keys of what is missing.
    """

    ending: Ending
    seconds: float = 0.0
    error: str = ""
    needs: tuple[str, ...] = ()


_worker = Worker()
_at_work = threading.Event()  # while this process does a job


def pin(slot: str, device: str, threads: int, parent: int) -> None:
    """Set up a process that belongs to the runner ``parent``, before anything imports torch.

    Ctrl-C is for the runner, which then sends its workers SIGTERM. A worker whose runner has died ends too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    _worker.slot, _worker.device, _worker.threads = slot, device, threads
    _keep_grown_workers()
    threading.Thread(target=_watch, args=(parent,), name="doorbench watch", daemon=True).start()
    signal.signal(signal.SIGTERM, _stop)  # last, as there is nothing to release before the first job


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: releasing the lock must not be interrupted
    if not _at_work.is_set():  # nothing is locked, and loky would print what is raised in its own code
        os._exit(0)
    raise Stopped


def _keep_grown_workers() -> None:
    """Keep loky from replacing a worker whose memory grew: it keeps a victim there on purpose."""
    from joblib.externals.loky import process_executor

    process_executor._MAX_MEMORY_LEAK_SIZE = float("inf")


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(3.0)
    os._exit(1)


def attempt_here(job: Job, store: Store, execute: Execute) -> Result:
    """Try a job in a pinned process."""
    _at_work.set()
    try:
        return attempt(job, store, execute, _worker)
    finally:
        _at_work.clear()


def attempt(job: Job, store: Store, execute: Execute, worker: Worker) -> Result:
    """Lock a job and do it. What a plugin raises is stored as a failure; trouble with the store is only reported."""
    try:
        with store.guard():
            return _attempt(job, store, execute, worker)
    except Refused as error:
        return Result("refused", error=str(error))
    except StoreGone as error:
        return Result("gone", error=str(error))
    except StoreTrouble as error:
        return Result("trouble", error=str(error))
    except StoreError as error:
        return Result("stop", error=str(error))


def _attempt(job: Job, store: Store, execute: Execute, worker: Worker) -> Result:
    if present(job, store):
        return Result("found")
    lock = store.lock(job.key)
    if lock is None:
        return Result("held")
    with lock:
        return _do_locked(job, store, execute, worker)


def _do_locked(job: Job, store: Store, execute: Execute, worker: Worker) -> Result:
    if present(job, store):
        return Result("found")
    if (known := store.failure(job.key)) is not None:
        return Result("failed", error=str(known.get("error")))
    if needs := tuple(need for need in job.needs if store.artifact(need) is None):
        return Result("missing", needs=needs)
    started = time.perf_counter()
    try:
        ending = execute(job, store, worker)
    except (Refused, StoreError):
        raise
    except (
        Exception,
        TimeLimit,
    ) as error:  # a plugin may raise anything; the grid goes on, and the row shows the error
        seconds = time.perf_counter() - started
        store.check_connected()  # if the store is gone, that is the reason, whatever was raised
        if isinstance(error, OSError) and store.holds(error.filename):
            with store.guard():
                raise
        message = one_line(error)
        if is_out_of_memory(error):
            return Result("lost", seconds, message)
        where = environment(worker)
        store.put_failure(job.key, failure(job, message, traceback.format_exc(), seconds, where))
        return Result("failed", seconds, message)
    store.drop_failure(job.key)  # another runner may have stored one meanwhile
    return Result(ending, time.perf_counter() - started)


def present(job: Job, store: Store) -> bool:
    """Whether the store has the undamaged result of a job."""
    return (store.artifact(job.key) if job.kind == "victim" else store.record(job.key)) is not None


def failure(
    job: Job, error: str, trace: str = "", seconds: float = 0.0, where: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return what is stored of a failed attempt."""
    return {
        "schema": 1,
        "key": job.key,
        "kind": job.kind,
        "status": "failed",
        "label": job.label,
        "error": error,
        "traceback": trace[-LONGEST_TRACE:],
        "seconds": {"attempt": seconds},
        "environment": where or {},
        "when": time.time(),
    }


def environment(worker: Worker) -> dict[str, Any]:
    """Return what a failure says about where it happened."""
    return {
        "device": worker.device,
        "slot": worker.slot,
        "threads": worker.threads,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "version": __version__,
    }


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, perhaps because of another process; torch has its own errors for that."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error))
    )


def one_line(error: BaseException) -> str:
    """Return an error as one line."""
    text = " ".join(str(error).split())
    plain = isinstance(error, (RequestError, TimeLimit))
    return text if plain else f"{type(error).__name__}: {text}".rstrip(": ")
