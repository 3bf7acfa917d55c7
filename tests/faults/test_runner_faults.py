"""Real processes, real kills: whatever dies at whatever moment, the results are those of an undisturbed run.

The quick versions run always. ``DOORBENCH_FULL_FAULTS=1`` runs the full one: 200 SIGKILLs, four runners, one store.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench import runner
from bench.errors import RequestError
from bench.runner import Event
from bench.store import Store
from bench.store.documents import wrap
from tests.faults.faultjobs import execute, grid, key

psutil = pytest.importorskip("psutil")
ROOT = Path(__file__).parents[2]
FULL = pytest.mark.skipif("DOORBENCH_FULL_FAULTS" not in os.environ, reason="set DOORBENCH_FULL_FAULTS=1")


@dataclass
class Siege:
    """Runners on one store, and somebody who kills them and their workers.

    Attributes:
        killed: process ids that were killed, and those of the workers of killed runners.
        counts: kills of runners and of workers.
    """

    folder: Path
    runners: int
    workers: int
    victims: int
    cells: int
    pause: float
    seed: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    killed: set[int] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=lambda: {"runner": 0, "worker": 0})
    processes: list[Any] = field(default_factory=list)
    all: list[Any] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    def jobs(self) -> list[runner.Job]:
        return grid(self.victims, self.cells, pause=self.pause)

    def start(self) -> Any:
        arguments = [self.folder / "store", self.folder / "log", self.workers, self.victims, self.cells, self.pause]
        command = [sys.executable, "-m", "tests.faults.faultjobs", *map(str, arguments)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "DOORBENCH_HEARTBEAT": "2", **self.environment}
        with (self.folder / "errors").open("a") as errors:
            process = psutil.Popen(command, cwd=ROOT, env=env, stdout=errors, stderr=errors)
        self.all.append(process)
        return process

    def close(self) -> None:
        """Leave nobody behind when a test fails half-way."""
        for process in self.all:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=10)

    def attack(self, kills: int, *, pause: float) -> None:
        """Kill at random moments; killed runners are started again. There must be work for all that time."""
        rng, wanted = random.Random(self.seed), sum(job.kind == "cell" for job in self.jobs())
        self.processes = [self.start() for _ in range(self.runners)]
        while sum(self.counts.values()) < kills:
            time.sleep(rng.expovariate(1 / pause))
            assert len(self.store.keys_of_records()) < wanted, f"all was done after {self.counts}; give it more work"
            self.processes = [p if p.poll() is None else self.start() for p in self.processes]
            boss = rng.choice(self.processes)
            workers = workers_of(boss)
            prey = rng.choice([*workers, boss, boss]) if workers else None
            if prey is None:
                continue  # it has only just begun; kills are for those at work
            self.counts["runner" if prey is boss else "worker"] += 1
            self.killed |= {p.pid for p in ([boss, *workers] if prey is boss else [prey])}
            prey.kill()
            psutil.wait_procs([prey], timeout=10)

    def finish(self) -> None:
        """Let everything end in peace."""
        self.processes = [p if p.poll() is None else self.start() for p in self.processes]
        for process in self.processes:
            assert process.wait(timeout=900) == 0, (self.folder / "errors").read_text()[-3000:]

    def check(self) -> None:
        """Compare with an undisturbed run, and see that no victim was trained twice without need."""
        calm, store, jobs = Store(self.folder / "calm"), self.store, self.jobs()
        runner.run(
            grid(self.victims, self.cells, pause=0.0), store=calm, execute=execute, engine="serial", device="cpu"
        )
        wanted = {job.key for job in jobs if job.kind == "cell"}
        files = list((store.root / "records").rglob("*.json"))
        assert sorted(path.stem for path in files) == sorted(wanted), "one record for each cell"
        assert [bare(record) for record in store.records()] == [bare(record) for record in calm.records()]
        assert store.verify().ok
        assert store.keys_of_artifacts() == {job.key for job in jobs if job.kind == "victim"}
        assert not store.keys_of_failures()
        assert not [lock for lock in store.locks() if lock.alive]
        for job in jobs:
            if job.kind == "victim":
                self._check_trained_once(job)

    def _check_trained_once(self, job: runner.Job) -> None:
        starts = self.log()["start", job.label]
        assert len(self.log()["end", job.label]) <= 1
        assert starts
        assert set(starts[:-1]) <= self.killed, f"{job.label} was trained by {starts}, of which not all were killed"

    def log(self) -> dict[tuple[str, str], list[int]]:
        """Return the process ids that started or ended a job, in order."""
        by_job: dict[tuple[str, str], list[int]] = defaultdict(list)
        for line in (self.folder / "log").read_text().splitlines():
            what, name, pid = line.split()
            by_job[what, name].append(int(pid))
        return by_job


@pytest.fixture
def besiege(tmp_path: Path) -> Iterator[Callable[..., Siege]]:
    """Make a siege in this test's folder."""
    made: list[Siege] = []

    def make(**options: Any) -> Siege:
        made.append(Siege(tmp_path, **options))
        return made[0]

    yield make
    for siege in made:
        siege.close()


def bare(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in {"seconds", "environment"}}


def workers_of(process: Any) -> list[Any]:
    """Return the loky workers of a runner, without the trackers that loky starts beside them."""
    try:
        children = process.children()
        return [child for child in children if "--process-name" in child.cmdline()]
    except psutil.Error:
        return []


def test_ten_kills(besiege: Callable[..., Siege]) -> None:
    siege = besiege(runners=2, workers=2, victims=4, cells=20, pause=0.25)
    siege.attack(10, pause=0.1)
    siege.finish()
    siege.check()


def test_runners_whose_clocks_jump(besiege: Callable[..., Siege]) -> None:
    siege = besiege(runners=2, workers=1, victims=2, cells=10, pause=0.2, environment={"FAULT_JUMPS": "1"})
    siege.attack(2, pause=0.3)
    siege.finish()
    siege.check()


@FULL
def test_200_kills_and_four_runners(besiege: Callable[..., Siege], capsys: pytest.CaptureFixture[str]) -> None:
    siege = besiege(runners=4, workers=2, victims=16, cells=100, pause=0.3)
    started = time.monotonic()
    siege.attack(200, pause=0.3)
    attacked = time.monotonic() - started
    siege.finish()
    siege.check()
    log, jobs = siege.log(), siege.jobs()
    again = {kind: sum(len(log["start", j.label]) - 1 for j in jobs if j.kind == kind) for kind in ("victim", "cell")}
    with capsys.disabled():
        sys.stdout.write(
            f"\n200 kills in {attacked:.0f} s ({siege.counts['runner']} runners, {siege.counts['worker']} workers), "
            f"{time.monotonic() - started:.0f} s in all; {len(jobs)} jobs; begun again: {again['victim']} victims, "
            f"{again['cell']} cells; runners started: {len(log['runner', '-'])}\n"
        )


def test_workers_of_a_killed_runner_end_and_leave_no_living_claim(besiege: Callable[..., Siege]) -> None:
    siege = besiege(runners=1, workers=2, victims=2, cells=2, pause=20.0)
    boss = siege.start()
    await_(lambda: sum(lock.alive for lock in siege.store.locks()) == 2)  # victims take 100 seconds
    workers = workers_of(boss)
    boss.kill()
    boss.wait()
    ended, left = psutil.wait_procs(workers, timeout=10)
    assert ended
    assert not left
    assert not [lock for lock in siege.store.locks() if lock.alive]


@pytest.mark.parametrize("moment", [0.0, 0.3, 1.0])
def test_one_ctrl_c_is_enough(besiege: Callable[..., Siege], tmp_path: Path, moment: float) -> None:
    siege = besiege(runners=1, workers=2, victims=2, cells=8, pause=0.08)
    process = siege.start()
    await_(lambda: (tmp_path / "log").exists() and "runner" in (tmp_path / "log").read_text())
    time.sleep(moment)
    workers = workers_of(process)
    before = siege.store.keys_of_records() | siege.store.keys_of_artifacts()
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == -signal.SIGINT
    assert time.monotonic() - started < 5
    assert not psutil.wait_procs(workers, timeout=2)[1]
    assert siege.store.locks() == [], "every lock was given back"
    assert before <= siege.store.keys_of_records() | siege.store.keys_of_artifacts()
    siege.killed = {worker.pid for worker in workers}
    rest = grid(siege.victims, siege.cells, pause=0.0, log=str(tmp_path / "log"))
    runner.run(rest, store=siege.store, execute=execute, engine="serial", device="cpu")
    siege.check()


def test_sigterm_does_what_ctrl_c_does(besiege: Callable[..., Siege]) -> None:
    siege = besiege(runners=1, workers=1, victims=1, cells=1, pause=20.0)
    process = siege.start()
    await_(lambda: siege.store.locks())
    workers = workers_of(process)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=5)
    assert not psutil.wait_procs(workers, timeout=2)[1]
    assert siege.store.locks() == []


def test_a_stopped_worker_is_killed_by_the_time_limit(tmp_path: Path) -> None:
    """SIGSTOP: the process is there, takes no signal and gives no answer."""
    store, jobs, stopped = Store(tmp_path), grid(1, 3, pause=0.05), []

    def on_event(event: Event) -> None:
        if event.kind == "start" and event.job and event.job.label == "v0c1" and not stopped:
            stopped.append(workers_of(psutil.Process()))
            for worker in stopped[0]:
                worker.send_signal(signal.SIGSTOP)

    options: dict[str, Any] = {"execute": execute, "workers": 1, "device": "cpu", "on_event": on_event}
    summary = runner.run(jobs, store=store, time_limit=4.0, **options)
    assert (summary.done, summary.failed) == (4, 1)
    assert (store.failure(key("v0c1")) or {})["error"] == "time limit of 4 seconds"


def test_a_store_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    store, away, events = Store(tmp_path / "store"), tmp_path / "away", list[Event]()
    jobs = grid(2, 8, pause=0.05)

    def unplug() -> None:
        await_(lambda: len(store.keys_of_records()) >= 3)
        store.root.rename(away)
        time.sleep(1.5)
        away.rename(store.root)

    person = threading.Thread(target=unplug)
    person.start()
    summary = runner.run(jobs, store=store, execute=execute, workers=2, device="cpu", on_event=events.append)
    person.join()
    assert (summary.done, summary.failed) == (len(jobs), 0)
    assert any("is gone" in event.text for event in events if event.kind == "note")
    assert store.verify().ok
    assert len(store.keys_of_records()) == 16


def test_a_store_that_does_not_come_back(tmp_path: Path) -> None:
    store, away = Store(tmp_path / "store"), tmp_path / "away"
    jobs = grid(2, 8, pause=0.05)

    def unplug() -> None:
        await_(lambda: len(store.keys_of_records()) >= 3)
        store.root.rename(away)

    person = threading.Thread(target=unplug)
    person.start()
    options: dict[str, Any] = {"execute": execute, "workers": 2, "device": "cpu"}
    with pytest.raises(RequestError, match="is gone") as caught:
        runner.run(jobs, store=store, patience=1.0, **options)
    person.join()
    assert "\n" not in str(caught.value)
    assert not store.root.exists(), "no empty store takes its place"
    kept = Store(away).keys_of_records()
    assert len(kept) >= 3
    away.rename(store.root)
    summary = runner.run(jobs, store=store, **options)
    assert summary.failed == 0
    assert summary.skipped >= 3
    assert store.verify().ok


def test_a_disk_that_is_full_until_somebody_makes_room(small_disk: Path) -> None:
    store, jobs = Store(small_disk / "store"), grid(2, 8, pause=0.05)
    options: dict[str, Any] = {"execute": execute, "workers": 2, "device": "cpu"}
    runner.run(jobs[:5], store=store, **options)
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1024)
    before = {record["key"]: record for record in store.records()}
    with pytest.raises(RequestError, match="no space is left in the store") as caught:
        runner.run(jobs, store=store, **options)
    assert "\n" not in str(caught.value)
    assert before.items() <= {record["key"]: record for record in store.records()}.items()
    assert not store.keys_of_failures(), "the disk is nobody's failure"
    ballast.unlink()
    assert runner.run(jobs, store=store, **options).failed == 0
    assert store.verify().ok
    assert not store.locks()


def test_a_read_only_disk_can_be_looked_at(small_disk: Path) -> None:
    store, jobs = Store(small_disk / "store"), grid(1, 4, pause=0.05)
    options: dict[str, Any] = {"execute": execute, "workers": 1, "device": "cpu"}
    runner.run(jobs[:3], store=store, **options)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(RequestError, match="cannot be written"):
        runner.run(jobs, store=store, **options)
    state = runner.status(jobs, Store(small_disk / "store"))
    assert (state.done, state.waiting, state.failed) == (3, 3, ())
    assert runner.run(jobs[:3], store=store, **options).skipped == 3, "nothing to do, nothing to write"


def test_a_record_from_the_future_stays_and_is_one_failure(tmp_path: Path) -> None:
    store, jobs = Store(tmp_path), grid(1, 3, pause=0.01)
    cell = jobs[-1]
    path = store.place("records", cell.key, ".json")
    path.parent.mkdir()
    path.write_bytes(wrap({"schema": 99, "key": cell.key, "status": "splendid"}))
    before = path.read_bytes()
    summary = runner.run(jobs, store=store, execute=execute, engine="serial", device="cpu")
    assert (summary.done, summary.failed) == (4, 1)
    assert "upgrade doorbench" in (store.failure(cell.key) or {})["error"]
    assert path.read_bytes() == before


def await_(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
