"""A worker that would make something else of a job is refused in one line, and nothing is made twice or for ever."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench import runner
from bench.conformance.world import MODEL
from bench.errors import RequestError
from bench.experiment import code_versions, recipes, work
from bench.experiment.plan import Plan
from bench.runner import Event, Refused, Worker
from bench.runner.cluster import Cluster, Remote
from bench.store import Store
from bench.suites import suite
from tests.runner import tinyjobs

distributed = pytest.importorskip("distributed")
ROOT = Path(__file__).parents[2]
OTHER_CODE = """
from dataclasses import replace
from bench.experiment.code_versions import CODE_VERSIONS
CODE_VERSIONS["learning"] = replace(CODE_VERSIONS["learning"], version=99)
"""


@pytest.fixture
def plan(world: Path) -> Plan:
    data = {
        "name": "tiny",
        "description": "tiny",
        "task": {"name": "local", "folder": str((world / "single").resolve()), "max_length": 32},
        "model": str(world / MODEL),
        "attack": "badword",
        "defense": ["none", "fine-tuning(steps=2)"],
        "labels": 32,
        "budget": {"epochs": 1, "learning_rate": 1e-3, "precision": "fp32"},
    }
    return Plan(suite.check(data, "tiny"))


def pretend(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Let this process be another machine."""
    match what:
        case "libraries":
            monkeypatch.setattr(recipes, "libraries", lambda: {**dict.fromkeys(recipes.LIBRARIES, "0"), "torch": "1.0"})
        case "code":
            learning = code_versions.CODE_VERSIONS["learning"]
            monkeypatch.setitem(code_versions.CODE_VERSIONS, "learning", replace(learning, version=99))
        case "data":
            monkeypatch.setattr(recipes, "_source_recipe", lambda source: {**source.recipe(), "fingerprint": "f" * 64})
        case "no data":
            monkeypatch.setattr(recipes, "task_of", missing)
    for cached in (recipes.victim_recipe, recipes.victim_key, recipes.made_with, recipes._source_recipe):
        getattr(cached, "cache_clear", lambda: None)()


def missing(source: Any) -> Any:
    raise RequestError("there is no folder of data here.")


WORDS = {
    "libraries": "torch is 1.0 there and ",
    "code": "the code of learning is version 99 there and version 2 here",
    "data": "the data of the task is ffffffffffff there",
    "no data": "it cannot find out what .* is: there is no folder of data here",
}


@pytest.mark.parametrize("what", WORDS)
def test_another_key_is_refused_before_anything_is_made(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    store, jobs = Store(tmp_path), plan.jobs
    with monkeypatch.context() as patch:
        pretend(patch, what)
        for job in jobs:
            with pytest.raises(Refused, match=WORDS[what]) as caught:
                work.execute(job, store, Worker())
            assert "\n" not in str(caught.value)
        with pytest.raises(RequestError, match="here is refused: .*" + WORDS[what]) as ended:
            runner.run(jobs, store=store, execute=work.execute, engine="serial", device="cpu")
        assert "\n" not in str(ended.value)
    assert not store.keys_of_artifacts()
    assert not store.keys_of_failures(), "a machine is nobody's failure"
    assert not store.locks()
    for cached in (recipes.victim_recipe, recipes.victim_key, recipes.made_with):
        cached.cache_clear()


def test_all_processes_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="worker . is refused: wrong versions"):
        runner.run(tinyjobs.grid(2, 2), store=Store(tmp_path), execute=refuse, workers=2, device="cpu")


def refuse(job: runner.Job, store: Store, worker: Worker) -> runner.Outcome:
    raise Refused("wrong versions")


def test_a_job_that_a_worker_cannot_read_is_no_failure() -> None:
    from bench.runner import cluster

    packed = pickle.dumps(tinyjobs.execute).replace(b"tinyjobs", b"nojobs..")
    result = cluster.attempt_remote(packed, "run", "cpu")
    assert result.ending == "refused"
    assert "nojobs" in result.error


Join = Callable[..., None]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, Join]]:
    """A scheduler without workers, and a function that lets a worker process join it."""
    crew = []
    options: dict[str, Any] = {"n_workers": 0, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as own, distributed.Client(own) as client:

        def join(path: Path = ROOT, preload: str = "") -> None:
            count = len(client.scheduler_info(n_workers=-1)["workers"])
            more = ["--preload", preload] if preload else []
            command = [sys.executable, "-m", "distributed.cli.dask_worker", own.scheduler_address, "--nthreads", "1"]
            command += ["--no-nanny", "--no-dashboard", "--memory-limit", "0", *more]
            environment = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
            with (tmp_path / "worker.log").open("a") as log:
                crew.append(subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log))
            deadline = time.monotonic() + 60
            while len(client.scheduler_info(n_workers=-1)["workers"]) == count:
                assert crew[-1].poll() is None, (tmp_path / "worker.log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()
                time.sleep(0.1)

        yield own.scheduler_address, join
        for process in crew:
            process.kill()
            process.wait()


def other_numpy(folder: Path) -> Path:
    """Make a folder that says that another numpy is installed."""
    about = folder / "other" / "numpy-9.9.9.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 9.9.9\n", encoding="utf-8")
    return about.parent


@pytest.mark.parametrize("what", ["libraries", "code", "no such code"])
def test_a_dask_worker_of_other_versions(
    cluster: tuple[str, Join], plan: Plan, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, join = cluster
    go = partial(runner.run, plan.jobs, execute=work.execute, engine="dask", device="cpu", scheduler=address)
    store, words = Store(tmp_path / "store"), {"libraries": "numpy is 9.9.9 there", "code": "version 99 there"}
    match what:
        case "libraries":
            join(other_numpy(tmp_path))
        case "code":
            join(preload=OTHER_CODE)
        case _:
            join(preload="import sys\nsys.modules['bench.runner'] = None\n")
    started = time.monotonic()
    with pytest.raises(RequestError, match=f"is refused: .*{words.get(what, 'bench.runner')}") as caught:
        go(store=store)
    assert time.monotonic() - started < 150
    assert "\n" not in str(caught.value)
    assert not store.keys_of_artifacts()
    assert not store.keys_of_failures()
    assert not store.locks()
    join()
    events: list[Event] = []
    summary = go(store=store, on_event=events.append)
    assert (summary.failed, summary.done) == (0, len(plan.jobs))
    assert len([event for event in events if "is refused" in event.text]) <= 1, "once is enough"


def test_a_scheduler_that_is_killed_ends_the_run_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bench.runner.cluster.CONNECT_SECONDS", 5
    )  # so long a client tries to reach a scheduler that has gone
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    file = tmp_path / "scheduler.json"
    own = subprocess.Popen([*command, "--scheduler-file", str(file)], stderr=subprocess.DEVNULL)
    crew: list[subprocess.Popen[bytes]] = []
    try:
        with distributed.Client(scheduler_file=str(file), timeout=60) as client:
            address = client.scheduler.address
            worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            crew.append(subprocess.Popen(worker, env=environment, stderr=subprocess.DEVNULL))
            client.wait_for_workers(1, timeout=60)

        def on_event(event: Event) -> None:
            if event.kind == "done" and event.job and event.job.kind == "cell":
                own.kill()
                own.wait()

        started = time.monotonic()
        with pytest.raises(RequestError, match="the Dask scheduler") as caught:
            runner.run(
                tinyjobs.grid(2, 4, words="doze v0c1 doze v1c1 "),
                store=Store(tmp_path / "store"),
                execute=tinyjobs.execute,
                engine="dask",
                device="cpu",
                scheduler=address,
                on_event=on_event,
            )
        assert "\n" not in str(caught.value)
        assert time.monotonic() - started < 150
    finally:
        for process in (own, *crew):
            process.kill()
            process.wait()


class Closed:
    """A Dask client whose connection has just been closed: whatever it is asked fails, and not always alike."""

    status = "closing"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def fail(*_: object, **__: object) -> None:
            raise self.error

        return fail


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route"),
        RuntimeError("ConnectionPool is closed"),
        KeyError("workers"),
        TimeoutError(),
        ValueError("?"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_connection_that_closes_at_any_moment_is_one_line(error: Exception, plan: Plan, tmp_path: Path) -> None:
    cluster = Cluster(Closed(error), None, "cpu", 0)
    slot = Remote(cluster, "tcp://192.0.2.1:1", "")
    with pytest.raises(RequestError, match=r"^the Dask scheduler .*\.$") as caught:
        cluster.slots()
    assert "\n" not in str(caught.value)
    with pytest.raises(RequestError, match="the Dask scheduler takes no job any more"):
        slot.submit(next(iter(plan.cells.values())), Store(tmp_path / "store"), tinyjobs.execute)
    slot.stop()
    slot.kill()
    assert slot.left
