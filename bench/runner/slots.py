"""Places on this machine to run a job: this process, or loky processes that are pinned before torch is imported."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from types import FrameType
from typing import Any, Protocol

from bench.errors import RequestError
from bench.runner.devices import choose_gpus, cores, threads_of
from bench.runner.jobs import Execute, Job, Outcome, Worker
from bench.runner.worker import THREADS, Result, Stopped, TimeLimit, attempt, attempt_here, pin
from bench.store import Store


class Slot(Protocol):
    """A place that does one job at a time."""

    @property
    def name(self) -> str:
        """What the schedule and people call it."""

    def submit(self, job: Job, store: Store, execute: Execute) -> Future[Result]:
        """Begin a job."""

    def stop(self) -> None:
        """Ask the running job to release its lock and end."""

    def kill(self) -> None:
        """End the running job at once. A slot on this machine can be used again."""


class Pool(Protocol):
    """All the slots of a run."""

    def slots(self) -> Sequence[Slot]:
        """Return the slots of this moment; on a cluster they come and go."""

    def refuse(self, slot: Slot) -> None:
        """Use a slot no more."""

    def close(self) -> None:
        """End every slot."""


class WorkerDied(Exception):
    """A worker ended in the middle of a job; the message says how."""


class Local:
    """A fixed number of slots on this machine."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = list(slots)

    def slots(self) -> Sequence[Slot]:
        """Return all of them."""
        return self._slots

    def refuse(self, slot: Slot) -> None:
        """End a slot and use it no more."""
        self._slots.remove(slot)
        slot.kill()

    def close(self) -> None:
        """End every slot."""
        for slot in self._slots:
            slot.kill()


class Here:
    """This process."""

    name = "here"

    def __init__(self, device: str, time_limit: float | None) -> None:
        self._worker = Worker(device, self.name, cores())
        self._time_limit = time_limit

    def submit(self, job: Job, store: Store, execute: Execute) -> Future[Result]:
        """Do the job before returning."""

        def timed(job: Job, store: Store, worker: Worker) -> Outcome:
            with alarm(self._time_limit):
                return execute(job, store, worker)

        future: Future[Result] = Future()
        future.set_result(attempt(job, store, timed, self._worker))
        return future

    def stop(self) -> None:
        """Do nothing: a job has always ended before ``submit`` returns."""

    def kill(self) -> None:
        """Drop what the last job kept in memory."""
        self._worker.cache.clear()


@contextlib.contextmanager
def alarm(seconds: float | None) -> Iterator[None]:
    """Raise :class:`TimeLimit` in the main thread after some seconds; code that never returns to Python goes on."""
    if seconds is None:
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeLimit(f"time limit of {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


class Process:
    """A loky process in an executor of its own: when it dies, nothing else does, and it is clear which job it did.

    Args:
        number: of the slot.
        gpu: as CUDA_VISIBLE_DEVICES names it; None for the CPU.
        threads: how many cores it may use.
    """

    def __init__(self, number: int, gpu: str | None, threads: int) -> None:
        self.name = f"worker {number}"
        self._environment = {
            **dict.fromkeys(THREADS, str(threads)),
            "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": gpu or "",
        }
        self._arguments = (self.name, "cuda" if gpu else "cpu", threads, os.getpid())
        self._executor: Any = None

    def submit(self, job: Job, store: Store, execute: Execute) -> Future[Result]:
        """Send the job to the process; one that died is replaced."""
        try:
            return self._submit(job, store, execute)
        except BrokenProcessPool:  # it died between two jobs
            self.kill()
            return self._submit(job, store, execute)

    def _submit(self, job: Job, store: Store, execute: Execute) -> Future[Result]:
        from joblib.externals.loky.process_executor import ProcessPoolExecutor

        if self._executor is None:
            # loky sets the environment before the new process imports anything, for a single worker too
            self._executor = ProcessPoolExecutor(
                1, initializer=pin, initargs=self._arguments, env=self._environment, timeout=None
            )
        with _ctrl_c_blocked():
            sent: Future[Result] = self._executor.submit(attempt_here, job, store, execute)
        return sent

    def stop(self) -> None:
        """Send SIGTERM, which :func:`bench.runner.worker.pin` turns into an exception in the job."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process and its children."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True, kill_workers=True)

    def _pids(self) -> list[int]:
        return [] if self._executor is None else list(self._executor._processes or ())


@contextlib.contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Start threads and processes with SIGINT blocked: the terminal sends Ctrl-C to all, but only the runner reacts.

    A Ctrl-C that arrives meanwhile is delivered afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def local(*, engine: str, workers: int | None, slots_per_gpu: int, device: str, time_limit: float | None) -> list[Slot]:
    """Return the slots of this machine.

    By default ``slots_per_gpu`` workers for each GPU, or one worker on a machine without GPUs; ``workers`` sets another
    number. The cores are shared out, see :func:`bench.runner.devices.threads_of`.

    Raises:
        RequestError: an unknown device, a GPU asked for on a machine without one, or more workers than GPU slots.
    """
    gpus = choose_gpus(device)
    if engine == "serial":
        if time_limit is not None and threading.current_thread() is not threading.main_thread():
            raise RequestError("engine 'serial' keeps a time limit only in the main thread; use loky.")
        return [Here("cuda" if gpus else "cpu", time_limit)]
    count = workers or max(1, len(gpus) * slots_per_gpu)
    if gpus and count > len(gpus) * slots_per_gpu:
        raise RequestError(
            f"{count} workers on {len(gpus)} GPUs with {slots_per_gpu} slots each; use at most "
            f"{len(gpus) * slots_per_gpu} workers, or more --slots-per-gpu."
        )
    threads = threads_of(count)
    return [Process(i, gpus[i % len(gpus)] if gpus else None, threads) for i in range(count)]


def death(error: BaseException) -> str | None:
    """Return in words how a worker died, or None if the error means something else."""
    if isinstance(error, Stopped):
        return "the worker was ended by SIGTERM"
    if isinstance(error, WorkerDied):
        return str(error)
    if isinstance(error, BrokenProcessPool) and (
        signal_or_status := re.search(r"(SIG\w+|EXIT)\((-?\d+)\)", str(error))
    ):
        if signal_or_status[1] == "EXIT":
            return f"the worker ended with exit status {signal_or_status[2]}"
        return f"the worker was killed by {signal_or_status[1]}" + (
            " (out of memory?)" if signal_or_status[1] == "SIGKILL" else ""
        )
    return None
