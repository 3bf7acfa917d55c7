"""The runner with tiny jobs and real processes: order, failures, killed workers, other runners, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench import runner
from bench.errors import RequestError
from bench.runner import Event, Job, Summary
from bench.store import Store
from tests.runner.tinyjobs import execute, grid, key

ENGINES = ("serial", "loky")


def go(
    jobs: list[Job], store: Store, *, engine: str = "loky", events: list[Event] | None = None, **more: Any
) -> Summary:
    tell = None if events is None else events.append
    return runner.run(jobs, store=store, execute=execute, engine=engine, device="cpu", on_event=tell, **more)


def sums(store: Store) -> dict[str, int]:
    return {record["key"]: record["sum"] for record in store.records()}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_grid_is_finished_once(tmp_path: Path, engine: str) -> None:
    jobs, store = grid(2, 4), Store(tmp_path)
    events: list[Event] = []
    found = go(jobs, store, engine=engine, events=events)
    assert (found.done, found.failed, found.skipped) == (10, 0, 0)
    started = [event.job.label for event in events if event.kind == "start" and event.job]
    assert started.index("v0") < started.index("v0c0")
    again = go(jobs, store, engine=engine)
    assert (again.done, again.skipped) == (0, 10)


def test_engines_agree(tmp_path: Path) -> None:
    stores = {engine: Store(tmp_path / engine) for engine in ENGINES}
    for engine, store in stores.items():
        go(grid(2, 3), store, engine=engine)
    assert sums(stores["serial"]) == sums(stores["loky"])


def test_workers_are_pinned_before_anything_is_imported(tmp_path: Path) -> None:
    store = Store(tmp_path)
    go(grid(1, 2), store, workers=1)
    threads = {record["environment"]["threads"] for record in store.records()}
    assert threads == {str(len(os.sched_getaffinity(0)))}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_failure_is_a_row_and_does_not_stop_the_grid(tmp_path: Path, engine: str) -> None:
    jobs, store = grid(2, 3, words="fail v0c1 fail v1 "), Store(tmp_path)
    found = go(jobs, store, engine=engine)
    assert (found.done, found.failed) == (3, 5)
    failure = store.failure(key("v0c1"))
    assert failure is not None
    assert failure["error"] == "ValueError: v0c1 was told to fail"
    assert "Traceback" in failure["traceback"]
    assert "its victim failed" in (store.failure(key("v1c0")) or {})["error"]
    assert not store.has_record(key("v0c1"))
    assert go(jobs, store, engine=engine).failed == 5
    for job in jobs:
        store.drop_failure(job.key)
    assert go(grid(2, 3), store, engine=engine).done == 5


def test_a_killed_worker_costs_one_more_try_and_then_one_cell(tmp_path: Path) -> None:
    jobs, store = grid(2, 3, words="die v0c1 die once v1c2 die once v1 "), Store(tmp_path)
    events: list[Event] = []
    found = go(jobs, store, workers=2, events=events)
    assert (found.done, found.failed) == (7, 1)
    assert "SIGKILL" in (store.failure(key("v0c1")) or {})["error"]
    assert sum(event.kind == "lost" for event in events) == 3


def test_time_limit(tmp_path: Path) -> None:
    jobs, store = grid(1, 3, words="sleep v0c1 "), Store(tmp_path)
    found = go(jobs, store, time_limit=3.0)
    assert (found.done, found.failed) == (3, 1)
    assert "time limit" in (store.failure(key("v0c1")) or {})["error"]


def test_two_runners_share_a_store(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.runner.test_engine import go;"
        "from tests.runner.tinyjobs import grid;"
        "from bench.store import Store; print(go(grid(3, 6), Store(Path(sys.argv[1])), workers=1).failed)"
    )
    log = tmp_path / "log"
    env = {**os.environ, "TINY_LOG": str(log), "DOORBENCH_HEARTBEAT": "1"}
    command = [sys.executable, "-c", code, str(tmp_path / "store")]
    processes = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].strip() for process in processes] == ["0", "0"]
    names = [line.split()[0] for line in log.read_text().splitlines()]
    assert sorted(names) == sorted(job.label for job in grid(3, 6)), "every job was done exactly once"


def test_one_ctrl_c_ends_it_and_keeps_what_was_finished(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.runner.test_engine import go;"
        "from tests.runner.tinyjobs import grid;"
        "from bench.store import Store; go(grid(1, 3, words='sleep v0c1 '), Store(Path(sys.argv[1])), workers=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
    store, deadline = Store(tmp_path), time.monotonic() + 60
    while not store.claims() or not store.keys_of_artifacts():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert process.wait(timeout=20) != 0
    assert time.monotonic() - started < 10
    assert store.keys_of_artifacts() == {key("v0")}
    found = go(grid(1, 3), store)
    assert found.failed == 0
    assert len(sums(store)) == 3


def test_wrong_requests(tmp_path: Path) -> None:
    for more in ({"engine": "slurm"}, {"device": "tpu"}):
        with pytest.raises(RequestError, match="Valid:"):
            runner.run([], store=Store(tmp_path), execute=execute, **more)


def test_status_reads_the_store(tmp_path: Path) -> None:
    jobs, store = grid(2, 2, words="fail v0c1 "), Store(tmp_path)
    assert runner.status(jobs, store).waiting == 6
    go(jobs, store, engine="serial")
    with store.claim(key("v9")) as claim:
        assert claim is not None
        found = runner.status([*jobs, Job(key("v9"), "victim", label="v9")], store)
    assert (found.done, found.waiting, len(found.running), len(found.failed)) == (5, 0, 1, 1)
    assert found.running[0][1].pid == os.getpid()
