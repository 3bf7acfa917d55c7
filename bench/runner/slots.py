"""Places to run a job: this process, or loky processes that are pinned to a device before torch is imported."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from concurrent.futures import Future
from typing import Any, Protocol

from bench.errors import RequestError, unknown
from bench.runner.jobs import Execute, Job
from bench.runner.worker import THREADS, Result, Worker, attempt, attempt_here, pin
from bench.store import Store

ENGINES = ("serial", "loky")
DEVICES = ("auto", "cpu", "cuda")


class Slot(Protocol):
    """A place that does one job at a time."""

    name: str

    def submit(self, job: Job, store: Store, execute: Execute) -> Future[Result]:
        """Begin a job."""

    def kill(self) -> None:
        """End whatever runs, at once; the slot can be used again."""


class Here:
    """This process."""

    def __init__(self, device: str) -> None:
        self.name = "here"
        self._worker = Worker(device=device)

    def submit(self, job: Job, store: Store, execute: Execute) -> Future[Result]:
        """Do the job before returning."""
        future: Future[Result] = Future()
        try:
            future.set_result(attempt(job, store, execute, self._worker))
        except Exception as error:
            future.set_exception(error)
        return future

    def kill(self) -> None:
        """Nothing runs while nobody waits for it."""


class Process:
    """A loky process of its own, so that when it dies it is clear which job it was at.

    Args:
        slot: number, for people.
        device: for the worker.
        environment: set before anything is imported: pinned GPU and thread counts.
    """

    def __init__(self, slot: int, device: str, environment: dict[str, str]) -> None:
        self.name = f"worker {slot}"
        self._arguments = (device, slot, environment)
        self._executor: Any = None

    def submit(self, job: Job, store: Store, execute: Execute) -> Future[Result]:
        """Send the job to the process; a process that died before is replaced."""
        from joblib.externals.loky.process_executor import ProcessPoolExecutor

        if self._executor is None:
            environment = self._arguments[2]
            self._executor = ProcessPoolExecutor(1, initializer=pin, initargs=self._arguments, env=environment)
        future: Future[Result] = self._executor.submit(attempt_here, job, store, execute)
        return future

    def kill(self) -> None:
        """Kill the process."""
        executor, self._executor = self._executor, None
        if executor is not None:
            for process in list((executor._processes or {}).values()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            executor.shutdown(wait=False, kill_workers=True)


def make_slots(*, engine: str, workers: int | None, slots_per_gpu: int, device: str) -> list[Slot]:
    """Return the places to run jobs.

    On a machine with GPUs there are ``slots_per_gpu`` workers for each, otherwise one worker, unless ``workers`` says
    how many. Threads are shared out: cores / workers each.

    Raises:
        RequestError: an unknown engine or device, or a GPU wanted where there is none.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    gpus = [] if device == "cpu" else visible_gpus()
    if device == "cuda" and not gpus:
        raise RequestError("device 'cuda' is wanted, but there is no GPU; use --device cpu, or see nvidia-smi.")
    if engine == "serial":
        return [Here("cuda" if gpus else "cpu")]
    count = workers or max(1, len(gpus) * slots_per_gpu)
    threads = str(max(1, cores() // count))
    slots: list[Slot] = []
    for slot in range(count):
        environment = dict.fromkeys(THREADS, threads)
        environment["TOKENIZERS_PARALLELISM"] = "false"
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)] if gpus else ""
        slots.append(Process(slot, "cuda" if gpus else "cpu", environment))
    return slots


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them, without importing torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip() not in {"", "-1"}]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(i) for i, line in enumerate(line for line in listed.stdout.splitlines() if line.startswith("GPU "))]


def death(error: BaseException) -> str:
    """Return in words how a worker died."""
    text = " ".join(str(error).split())
    for name in ("SIGKILL", "SIGSEGV", "SIGTERM", "SIGABRT", "SIGBUS"):
        if name in text or f"EXIT_CODE: -{int(getattr(signal, name))}" in text:
            return f"the worker was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"the worker died: {type(error).__name__}"
