"""The Dask engine for real: a scheduler, worker processes, and one of them killed half-way."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import runner
from bench.errors import RequestError
from bench.runner import Event, Job
from bench.runner.cluster import read_file
from bench.store import Store
from tests.runner.tinyjobs import execute, grid, key

psutil = pytest.importorskip("psutil")
distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A scheduler with three worker processes, each under a nanny that replaces it when it dies."""
    options: dict[str, Any] = {"memory_limit": 0, "dashboard_address": None}
    with distributed.LocalCluster(n_workers=3, threads_per_worker=1, processes=True, **options) as cluster:
        yield cluster.scheduler_address


def go(jobs: list[Job], store: Store, scheduler: str | None, **more: Any) -> runner.Summary:
    return runner.run(jobs, store=store, execute=execute, engine="dask", device="cpu", scheduler=scheduler, **more)


def sums(store: Store) -> dict[str, int]:
    return {record["key"]: record["sum"] for record in store.records()}


def test_dask_does_what_serial_does(scheduler: str, tmp_path: Path) -> None:
    here, remote = Store(tmp_path / "here"), Store(tmp_path / "there")
    jobs = grid(3, 4)
    runner.run(jobs, store=here, execute=execute, engine="serial", device="cpu")
    events: list[Event] = []
    summary = go(jobs, remote, scheduler, on_event=events.append)
    assert (summary.done, summary.failed) == (15, 0)
    assert sums(here) == sums(remote)
    assert len({event.worker for event in events if event.kind == "done"}) == 3
    assert {record["environment"]["threads"] for record in remote.records()} == {"1"}
    assert go(jobs, remote, scheduler).skipped == 15


def test_a_killed_worker_is_survived(scheduler: str, tmp_path: Path) -> None:
    store, killed = Store(tmp_path), []

    def on_event(event: Event) -> None:
        if event.kind == "done" and event.job and event.job.kind == "cell" and not killed:
            for lock in store.locks()[:1]:
                killed.append(lock.pid)
                os.kill(lock.pid, signal.SIGKILL)

    jobs = grid(3, 6, words="".join(f"doze v{v}c5 " for v in range(3)))
    summary = go(jobs, store, scheduler, on_event=on_event)
    assert killed
    assert (summary.done, summary.failed) == (21, 0)
    assert sums(store).keys() == {job.key for job in jobs if job.kind == "cell"}


def test_a_job_that_kills_its_worker_fails_and_the_rest_goes_on(scheduler: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    summary = go(grid(2, 4, words="die v0c1 fail v1c1 "), store, scheduler)
    assert (summary.done, summary.failed) == (8, 2)
    assert "left the cluster" in (store.failure(key("v0c1")) or {})["error"]
    assert (store.failure(key("v1c1")) or {})["error"] == "ValueError: v1c1 was told to fail"


def test_time_limit(scheduler: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    summary = go(grid(1, 3, words="sleep v0c1 "), store, scheduler, time_limit=2.0)
    assert (summary.done, summary.failed) == (3, 1)
    pid = int((tmp_path / "asleep-v0c1").read_text())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline, "a stuck worker is ended"
        time.sleep(0.05)
    assert (store.failure(key("v0c1")) or {})["error"] == "time limit of 2 seconds"


def test_ctrl_c_gives_the_claims_back(scheduler: str, tmp_path: Path) -> None:
    store = Store(tmp_path)

    def on_event(event: Event) -> None:
        if event.kind == "done" and event.job and event.job.label == "v0c0":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(grid(1, 3, words="nap v0c1 nap v0c2 "), store, scheduler, on_event=on_event)
    assert store.locks() == []
    assert go(grid(1, 3), store, scheduler).failed == 0


def test_a_cluster_file_for_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("kind: local\nworkers: 1\nthreads: 2\nmemory: 0\n", encoding="utf-8")
    store = Store(tmp_path / "store")
    assert go(grid(1, 2), store, str(path)).done == 3
    assert {record["environment"]["threads"] for record in store.records()} == {"2"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: pbs\n", "valid kinds: address, local, slurm"),
        ("kind: local\nworkers: 0\n", "greater than or equal to 1"),
        ("kind: address\n", "address: Field required"),
        ("kind: slurm\noption: {}\n", "Extra inputs"),
        ("kind: local\nkind: local\n", "duplicate key"),
    ],
)
def test_wrong_cluster_files(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=words) as caught:
        read_file(path)
    assert "\n" not in str(caught.value)


def test_slurm_options_reach_dask_jobqueue(tmp_path: Path) -> None:
    from bench.runner.cluster import SlurmFile, start

    options = {"cores": 4, "memory": "16GB", "queue": "gpu", "job_extra_directives": ["--gres=gpu:1"]}
    cluster = start(SlurmFile(kind="slurm", workers=0, options=options))
    try:
        script = cluster.job_script()
        assert "#SBATCH -p gpu" in script
        assert "#SBATCH --gres=gpu:1" in script
    finally:
        cluster.close()
    with pytest.raises(RequestError, match="options of the cluster file"):
        start(SlurmFile(kind="slurm", options={"memory": "16GB"}))


SBATCH = """#!/bin/sh
cp "$1" "$0.$$"
setsid sh "$0.$$" >/dev/null 2>&1 &
echo $! >> "$0.jobs"
echo "Submitted batch job $!"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for sbatch and scancel that run a job script on this machine; return the file with the job ids."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", '#!/bin/sh\nkill -KILL -- "-$1"\n')):
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "sbatch.jobs"


@pytest.mark.parametrize("processes", [1, 2])
def test_a_slurm_job_that_reaches_its_walltime_is_submitted_again(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    path, store, ended = tmp_path / "cluster.yaml", Store(tmp_path / "store"), list[int]()
    options = f"{{cores: 2, processes: {processes}, memory: 2GB, interface: lo}}"
    path.write_text(f"kind: slurm\nworkers: {processes}\noptions: {options}\n", encoding="utf-8")
    monkeypatch.setattr("bench.runner.cluster.LOST_SECONDS", 1.0)

    def on_event(event: Event) -> None:
        if event.kind == "start" and event.job and event.job.label == "v0c1" and not ended:
            time.sleep(0.5)
            ended.append(int(slurm.read_text().split()[0]))
            os.killpg(ended[0], signal.SIGKILL)  # as SLURM does: the whole job, its nanny included

    summary = go(grid(1, 4, words="doze v0c1 "), store, str(path), on_event=on_event)
    assert (summary.done, summary.failed) == (5, 0)
    jobs = [int(line) for line in slurm.read_text().split()]
    assert len(jobs) == 2
    assert {record["environment"]["threads"] for record in store.records()} == {str(2 // processes)}
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(job) and psutil.Process(job).status() != "zombie" for job in jobs):
        assert time.monotonic() < deadline, "scancel ends what is left"
        time.sleep(0.05)


def test_wrong_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    with pytest.raises(RequestError, match="no cluster file"):
        go([], store, str(tmp_path / "none.yaml"))
    with pytest.raises(RequestError, match="leave out --workers"):
        go([], store, "tcp://127.0.0.1:1", workers=2)
    monkeypatch.setattr("bench.runner.cluster.CONNECT_SECONDS", 0.5)
    with pytest.raises(RequestError, match="no Dask scheduler answers at tcp://127.0.0.1:1"):
        go(grid(1, 1), store, "tcp://127.0.0.1:1")
    assert go([], store, "tcp://127.0.0.1:1").done == 0, "nothing to do, nobody to ask"


def test_dask_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RequestError, match=r"pip install 'doorbench\[cluster\]'"):
        go(grid(1, 1), Store(tmp_path), None)
