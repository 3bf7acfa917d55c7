"""Jobs that workers can do without any model: a victim is a file with a number, a cell is a sum."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

from bench.runner import Job, Outcome, Worker
from bench.store import Store, StoreFull


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def grid(victims: int, cells: int, *, words: str = "") -> list[Job]:
    """Return victims and their cells; ``words`` tells the jobs how to misbehave."""
    jobs = []
    for v in range(victims):
        jobs.append(Job(key(f"v{v}"), "victim", (), 5.0, f"v{v}", (f"v{v}", words)))
        jobs += [
            Job(key(f"v{v}c{c}"), "cell", (key(f"v{v}"),), 1.0, f"v{v}c{c}", (f"v{v}c{c}", words)) for c in range(cells)
        ]
    return jobs


def execute(job: Job, store: Store, worker: Worker) -> Outcome:
    name, words = job.payload
    log = os.environ.get("TINY_LOG")
    if log:
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{name} {os.getpid()}\n")
    if f"fail {name} " in words:
        raise ValueError(f"{name} was told\nto fail")
    if f"die {name} " in words:
        os.kill(os.getpid(), signal.SIGKILL)
    if f"die once {name} " in words and not (store.root / f"died-{name}").exists():
        (store.root / f"died-{name}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if f"memory {name} " in words:
        raise MemoryError
    if f"full {name} " in words:
        raise StoreFull("no space is left")
    if f"senseless {name} " in words:
        store.put_record(job.key, {"schema": 1, "key": job.key, "status": "n/a", "error": "senseless"})
        return "n/a"
    if f"sleep {name} " in words:
        (store.root / f"asleep-{name}").write_text(str(os.getpid()))
        time.sleep(30)
    for _ in range(3000 if f"nap {name} " in words else 200 if f"doze {name} " in words else 2):
        time.sleep(0.01)
    number = int(key(name)[:6], 16)
    if job.kind == "victim":
        store.put_artifact(job.key, {"kind": "victim"}, lambda folder: _write(folder, number))
        return "done"
    base = store.artifact(job.needs[0])
    assert base is not None
    total = number + int((base / "number.txt").read_text())
    environment = {
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "device": worker.device,
        "torch": "torch" in sys.modules,
        "pid": os.getpid(),
    }
    record = {"schema": 1, "key": job.key, "kind": "cell", "status": "done", "sum": total, "environment": environment}
    store.put_record(job.key, record)
    return "done"


def _write(folder: Path, number: int) -> None:
    (folder / "number.txt").write_text(str(number))
