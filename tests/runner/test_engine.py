"""The runner with tiny jobs and real processes: order, failures, killed workers, other runners, Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from bench import runner
from bench.errors import RequestError
from bench.runner import Event, Job, Summary, devices
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
    summary = go(jobs, store, engine=engine, events=events)
    assert (summary.done, summary.failed, summary.skipped) == (10, 0, 0)
    started = [event.job.label for event in events if event.kind == "start" and event.job]
    assert started.index("v0") < started.index("v0c0")
    again = go(jobs, store, engine=engine)
    assert (again.done, again.skipped) == (0, 10)


def test_engines_agree(tmp_path: Path) -> None:
    stores = {engine: Store(tmp_path / engine) for engine in ENGINES}
    for engine, store in stores.items():
        go(grid(2, 3), store, engine=engine)
    assert sums(stores["serial"]) == sums(stores["loky"])


def test_workers_are_pinned_before_anything_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    go(grid(1, 2), store, workers=1)
    environments = [record["environment"] for record in store.records()]
    assert {environment["threads"] for environment in environments} == {str(len(os.sched_getaffinity(0)))}
    assert {environment["pid"] for environment in environments} != {os.getpid()}
    assert not any(environment["torch"] for environment in environments)
    assert {(environment["gpu"], environment["device"]) for environment in environments} == {("", "cpu")}


def test_workers_take_no_more_threads_than_the_user_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cores", lambda: 8)
    for setting, expected in (("", 4), ("1", 1), ("3", 3), ("16", 4), ("0", 4), ("two", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", setting)
        assert devices.threads_of(2) == expected


def test_gpus_are_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.runner.devices.visible_gpus", lambda: ["2", "GPU-5"])
    store = Store(tmp_path)
    options: dict[str, Any] = {"store": store, "execute": execute, "slots_per_gpu": 2}
    runner.run(grid(4, 8, words="".join(f"doze v{v} " for v in range(4))), **options)
    environments = [record["environment"] for record in store.records()]
    pinned = {environment["pid"]: (environment["gpu"], environment["device"]) for environment in environments}
    assert sorted(pinned.values()) == [("2", "cuda"), ("2", "cuda"), ("GPU-5", "cuda"), ("GPU-5", "cuda")]
    with pytest.raises(RequestError, match="use at most 4 workers, or more --slots-per-gpu"):
        runner.run(grid(1, 1), workers=5, **options)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_failure_is_a_row_and_does_not_stop_the_grid(tmp_path: Path, engine: str) -> None:
    jobs, store = grid(2, 3, words="fail v0c1 fail v1 "), Store(tmp_path)
    summary = go(jobs, store, engine=engine)
    assert (summary.done, summary.failed) == (3, 5)
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
    summary = go(jobs, store, workers=2, events=events)
    assert (summary.done, summary.failed) == (7, 1)
    assert "SIGKILL" in (store.failure(key("v0c1")) or {})["error"]
    assert sum(event.kind == "lost" for event in events) == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_time_limit(tmp_path: Path, engine: str) -> None:
    jobs, store = grid(1, 3, words="sleep v0c1 "), Store(tmp_path)
    summary = go(jobs, store, engine=engine, time_limit=4.0)
    assert (summary.done, summary.failed) == (3, 1)
    assert (store.failure(key("v0c1")) or {})["error"] == "time limit of 4 seconds"
    assert store.locks() == []


def test_too_little_memory_is_worth_a_second_try_in_a_fresh_process(tmp_path: Path) -> None:
    jobs, store, events = grid(1, 3, words="memory v0c1 "), Store(tmp_path), list[Event]()
    summary = go(jobs, store, events=events)
    assert (summary.done, summary.failed) == (3, 1)
    assert [event.text for event in events if event.kind == "lost"] == ["MemoryError"]
    assert (store.failure(key("v0c1")) or {})["error"] == "MemoryError"


def test_a_worker_that_dies_while_idle_is_replaced(tmp_path: Path) -> None:
    store, killed = Store(tmp_path), []

    def on_event(event: Event) -> None:
        if event.kind == "done" and event.job and event.job.kind == "cell" and not killed:
            record = store.record(event.job.key)
            assert record is not None
            killed.append(record["environment"]["pid"])
            os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.5)

    summary = runner.run(grid(1, 4), store=store, execute=execute, workers=1, device="cpu", on_event=on_event)
    assert killed
    assert (summary.done, summary.failed) == (5, 0)


def test_a_full_store_ends_the_run_in_one_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RequestError, match="^no space is left$"):
        go(grid(2, 3, words="full v0c1 "), store)
    assert store.locks() == []
    assert not store.keys_of_failures()
    assert go(grid(2, 3), store).failed == 0


def test_what_makes_no_sense_is_counted(tmp_path: Path) -> None:
    summary = go(grid(1, 3, words="senseless v0c1 "), Store(tmp_path))
    assert (summary.done, summary.not_applicable, summary.failed) == (3, 1, 0)


def test_a_damaged_victim_is_made_again_before_its_cells(tmp_path: Path) -> None:
    jobs, store = grid(2, 3), Store(tmp_path)
    go(jobs, store)
    before = sums(store)
    folder = store.artifact(key("v0"))
    assert folder is not None
    (path,) = (path for path in folder.iterdir() if path.name != "manifest.json")
    path.write_bytes(b"x" * path.stat().st_size)
    store.place("records", key("v0c1"), ".json").unlink()
    store.place("records", key("v0c2"), ".json").unlink()
    events: list[Event] = []
    summary = go(jobs, store, events=events, workers=2)
    assert (summary.done, summary.failed) == (3, 0), "the victim and two cells"
    assert summary.skipped == len(jobs) - 3
    assert any("is made again" in event.text for event in events if event.kind == "note")
    assert sums(store) == before


def test_a_victim_that_is_lost_and_made_again_counts_once(tmp_path: Path) -> None:
    jobs, store, lost = grid(1, 3), Store(tmp_path), list[Event]()

    def lose(event: Event) -> None:
        if event.kind == "done" and event.job is not None and event.job.kind == "victim" and not lost:
            lost.append(event)
            shutil.rmtree(store.place("artifacts", event.job.key))

    summary = runner.run(jobs, store=store, execute=execute, engine="serial", device="cpu", on_event=lose)
    assert lost and (summary.done, summary.failed) == (len(jobs), 0)


def test_victims_that_nothing_needs_are_not_made_again(tmp_path: Path) -> None:
    jobs, store = grid(2, 3), Store(tmp_path)
    go(jobs, store)
    shutil.rmtree(store.place("artifacts", key("v0")))
    assert go(jobs, store).done == 0
    store.place("records", key("v0c1"), ".json").unlink()
    assert go(jobs, store).done == 2, "one cell and its victim"


def test_a_dead_runners_claim_is_taken_over_at_once(tmp_path: Path) -> None:
    jobs, store = grid(1, 2), Store(tmp_path)
    code = "import os, sys; from pathlib import Path; from bench.store import Store;"
    code += "Store(Path(sys.argv[1])).lock(sys.argv[2]); os._exit(1)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path), key("v0")], check=False)
    assert [lock.alive for lock in store.locks()] == [False]
    started = time.monotonic()
    assert go(jobs, store).failed == 0
    assert time.monotonic() - started < 8


def test_needs_that_nobody_makes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither in the store nor among the jobs"):
        go(grid(1, 2)[1:], Store(tmp_path))


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
    while not store.locks() or not store.keys_of_artifacts():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert process.wait(timeout=20) != 0
    assert time.monotonic() - started < 10
    assert store.keys_of_artifacts() == {key("v0")}
    summary = go(grid(1, 3), store)
    assert summary.failed == 0
    assert len(sums(store)) == 3


def test_a_wait_that_two_ctrl_c_broke_is_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter([True])

    def broken(*futures: Any, **options: Any) -> Any:
        if next(calls, False):
            try:
                raise KeyboardInterrupt
            finally:
                raise RuntimeError("release unlocked lock")
        return wait(*futures, **options)

    monkeypatch.setattr("bench.runner.engine.wait", broken)
    with pytest.raises(KeyboardInterrupt):
        go(grid(1, 2), Store(tmp_path), workers=1)
    monkeypatch.undo()
    assert go(grid(1, 2), Store(tmp_path)).failed == 0


def test_wrong_requests(tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"engine": "slurm"}, "Valid: dask, loky, serial"),
        ({"device": "tpu"}, "Valid: auto, cpu, cuda"),
        ({"device": "tpu", "engine": "dask"}, "Valid: auto, cpu, cuda"),
        ({"time_limit": 0.0}, "more than 0"),
        ({"scheduler": "tcp://host:8786"}, "for the engine 'dask'"),
    ]
    for more, words in wrong:
        with pytest.raises(RequestError, match=words):
            runner.run([], store=Store(tmp_path), execute=execute, **more)


def test_status_reads_the_store(tmp_path: Path) -> None:
    jobs, store = grid(2, 2, words="fail v0c1 "), Store(tmp_path)
    assert runner.status(jobs, store).waiting == 6
    go(jobs, store, engine="serial")
    with store.lock(key("v9")) as lock:
        assert lock is not None
        state = runner.status([*jobs, Job(key("v9"), "victim", label="v9")], store)
    assert (state.done, state.waiting, len(state.running), len(state.failed)) == (5, 0, 1, 1)
    assert state.running[0][1].pid == os.getpid()
    with store.lock(jobs[0].key):  # as in the moment between a result and the end of its lock
        state = runner.status(jobs, store)
    assert (state.done, len(state.running)) == (5, 0)
    records = Store(tmp_path / "records alone")
    for job in jobs:
        if job.kind == "cell" and job.key in store.keys_of_records():
            records.put_record(job.key, store.record(job.key) or {})
    state = runner.status(jobs, records)
    assert (state.done, state.waiting) == (3, 2)  # the cell that failed and its victim; not the other victim
