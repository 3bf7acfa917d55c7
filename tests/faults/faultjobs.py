"""A grid of tiny deterministic jobs, and a program that runs it until nothing is left, whoever kills what.

``python -m tests.faults.faultjobs STORE LOG WORKERS VICTIMS CELLS PAUSE``
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import signal
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import numpy as np

from bench import runner
from bench.errors import RequestError
from bench.runner import Job, Outcome, Worker
from bench.store import Store
from tests.faults import flaky
from tests.faults.store_workers import jumping_clock

faulthandler.register(signal.SIGUSR1, all_threads=True)  # says where a process is that hangs
flaky.install()  # in the workers too, which import this module for `execute`


def key(name: str) -> str:
    return hashlib.sha256(f"fault {name}".encode()).hexdigest()


def grid(victims: int, cells: int, *, pause: float, log: str = "") -> list[Job]:
    """Return victims, every third of which starts from the clean one, and their cells; ``pause``: seconds of a cell."""
    jobs = [Job(key("clean"), "victim", (), 5 * pause, "clean", ("clean", 5 * pause, log))]
    for v in range(victims):
        name = f"v{v}"
        needs = (key("clean"),) if v % 3 == 0 else ()
        jobs.append(Job(key(name), "victim", needs, 5 * pause, name, (name, 5 * pause, log)))
        for c in range(cells):
            needs = (key(name), key("clean")) if c == 0 else (key(name),)
            jobs.append(Job(key(f"{name}c{c}"), "cell", needs, pause, f"{name}c{c}", (f"{name}c{c}", pause, log)))
    return jobs


def execute(job: Job, store: Store, worker: Worker) -> Outcome:
    name, pause, log = job.payload
    if "FAULT_JUMPS" in os.environ:
        jumping_clock()
    write_log(log, "start", name)
    numbers = np.random.default_rng(int(job.key[:8], 16)).normal(size=64)
    for need in job.needs:
        folder = store.artifact(need)
        assert folder is not None
        numbers = numbers + np.array(json.loads((folder / "weights.json").read_text(encoding="utf-8")))
    time.sleep(pause)
    if job.kind == "victim":
        store.put_artifact(job.key, {"kind": "victim", "name": name}, partial(_fill, numbers))
    else:
        store.put_record(job.key, _record(job, numbers))
    write_log(log, "end", name)
    return "done"


def _fill(numbers: np.ndarray, folder: Path) -> None:
    (folder / "weights.json").write_text(json.dumps(numbers.tolist()), encoding="utf-8")


def _record(job: Job, numbers: np.ndarray) -> dict[str, object]:
    return {
        "schema": 1,
        "key": job.key,
        "kind": "cell",
        "status": "done",
        "error": None,
        "metrics": {"sum": float(np.tanh(numbers).sum())},
        "predictions": hashlib.sha256(numbers.tobytes()).hexdigest(),
        "seconds": {"evaluation": time.perf_counter()},
        "environment": {"pid": os.getpid()},
    }


def write_log(log: str, what: str, name: str) -> None:
    """Add one line in one system call, so that lines of many processes stay whole."""
    if log:
        handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{what} {name} {os.getpid()}\n".encode())
        os.close(handle)


def main(folder: str, log: str, workers: str, victims: str, cells: str, pause: str) -> None:
    """Run the grid; what failed because its workers were killed is tried again until nothing fails."""
    if "FAULT_JUMPS" in os.environ:
        jumping_clock()
    try:
        run(folder, log, workers, victims, cells, pause)
    except RequestError as error:
        sys.stderr.write(f"doorbench: {error}\n")
        sys.exit(2)
    except Exception:
        write_log(log, "traceback", "-")
        traceback.print_exc()
        sys.exit(3)


def run(folder: str, log: str, workers: str, victims: str, cells: str, pause: str) -> None:
    """Do so without a word for errors."""
    jobs, store = grid(int(victims), int(cells), pause=float(pause), log=log), Store(Path(folder))
    write_log(log, "runner", "-")
    while True:
        summary = runner.run(jobs, store=store, execute=execute, engine="loky", workers=int(workers), device="cpu")
        if not summary.failed:
            return
        for job in jobs:
            store.drop_failure(job.key)


if __name__ == "__main__":
    from tests.faults import faultjobs

    faultjobs.main(*sys.argv[1:])  # so that workers import this module, too, instead of getting a copy of a function
