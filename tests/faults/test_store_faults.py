"""The store under real faults: processes killed and stopped, disks full and read-only, bytes flipped, folders gone.

``DOORBENCH_FAULTS=full`` runs the long versions; figures are printed with ``-s``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from bench.errors import RequestError
from bench.store import Store, StoreError, StoreFull, StoreGone, StoreReadOnly, StoreTrouble, artifacts
from tests.faults import store_workers
from tests.store.samples import fill, key, record, victim_recipe

FULL = os.environ.get("DOORBENCH_FAULTS") == "full"
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.faults.store_workers"])


Start = Callable[..., ForkServerProcess]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a worker with a heartbeat period; whatever a test leaves behind is killed."""
    crew = []

    def launch(work: Any, heartbeat: float, *arguments: Any, **options: Any) -> ForkServerProcess:
        monkeypatch.setenv("DOORBENCH_HEARTBEAT", str(heartbeat))
        arguments = (heartbeat, *arguments)
        process = context.Process(target=store_workers.run, args=(work, *arguments), kwargs=options, daemon=True)
        process.start()
        crew.append(process)
        return process

    yield launch
    for process in crew:
        process.kill()
        process.join()


def events(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def wait_for(log: Path, event: str, count: int = 1, *, limit: float = 30) -> None:
    end = time.monotonic() + limit
    while sum(e["event"] == event for e in events(log)) < count:
        assert time.monotonic() < end, f"no {event!r} within {limit} s: {events(log)[-3:]}"
        time.sleep(0.01)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Store(tmp_path / "store").root


@pytest.mark.parametrize("foreign", [False, True], ids=["one machine", "many machines with jumping clocks"])
def test_processes_that_are_killed_lose_and_repeat_nothing(root: Path, log: Path, start: Start, foreign: bool) -> None:
    kills, workers = ((200, 8) if FULL else (25, 4)) if not foreign else ((40, 8) if FULL else (5, 4))
    heartbeat = 2.0
    names = [f"cell {i}" for i in range(6 * kills)]
    options = {"foreign": foreign, "seconds": 0.05}
    dice, killed, began = random.Random(7), {}, time.monotonic()
    crew = [start(store_workers.produce, heartbeat, root, log, names, **options) for _ in range(workers)]
    wait_for(log, "enter")
    while len(killed) < kills and any(process.is_alive() for process in crew):
        time.sleep(dice.uniform(0, 0.1))
        place = dice.randrange(workers)
        if crew[place].is_alive():
            killed[crew[place].pid] = time.monotonic()
            os.kill(crew[place].pid or 0, signal.SIGKILL)
            crew[place].join()
            crew[place] = start(store_workers.produce, heartbeat, root, log, names, **options)
    for process in crew:
        process.join(120)
        assert process.exitcode == 0
    seconds = time.monotonic() - began
    store = Store(root)
    records = list(store.records())
    check_intervals(events(log), killed, {r["key"]: r["maker"] for r in records})
    assert sorted(r["key"] for r in records) == sorted(key(name) for name in names)
    assert store.keys_of_artifacts() == store.keys_of_records() and store.verify().ok
    assert not list((root / "damaged").iterdir())
    assert len(killed) >= kills * 0.8
    inside = sum(e["event"] == "enter" for e in events(log)) - len(names)
    print(
        f"\n{len(killed)} kills, {inside} of them at work on one of {len(names)} keys: each made once; {seconds:.0f} s"
    )  # noqa: E501


def check_intervals(entries: list[dict[str, Any]], killed: dict[int | None, float], makers: dict[str, int]) -> None:
    """Nobody enters before the one before has been killed, nobody once a key is done, and the last one made it."""
    by_key = defaultdict(list)
    for event in sorted(entries, key=lambda e: e["time"]):
        by_key[event["key"]].append(event)
    assert set(by_key) == set(makers)
    for name, story in by_key.items():
        entered = [e for e in story if e["event"] == "enter"]
        left = [e for e in story if e["event"] == "leave"]
        assert story == entered + left and len(left) <= 1
        assert makers[name] == entered[-1]["pid"] and all(e["pid"] == entered[-1]["pid"] for e in left)
        for before, after in zip(entered, entered[1:], strict=False):
            assert killed[before["pid"]] <= after["time"]


def test_a_stopped_process_loses_its_claim_and_does_no_harm(root: Path, log: Path, start: Start) -> None:
    heartbeat = 0.8
    store = Store(root)
    sleeper = start(store_workers.hold, heartbeat, root, log, "job")
    wait_for(log, "enter")
    assert store.lock(key("job"), wait=3 * heartbeat) is None  # it is alive
    os.kill(sleeper.pid or 0, signal.SIGSTOP)
    began = time.monotonic()
    lock = store.lock(key("job"), wait=10)
    assert lock is not None and time.monotonic() - began <= 2 * heartbeat + 0.5
    store.put_record(key("job"), record("job", maker="successor"))
    log.with_name("go").touch()
    os.kill(sleeper.pid or 0, signal.SIGCONT)
    sleeper.join(10)
    assert sleeper.exitcode == 0 and {"lost", "leave"} <= {e["event"] for e in events(log)}
    assert lock.held and store.lock(key("job")) is None
    lock.release()
    stored = store.record(key("job"))
    assert stored is not None and stored["maker"] == "successor"
    assert not list((root / "claims").iterdir()) and store.verify().ok


def test_a_store_that_is_unplugged_and_comes_back(root: Path, log: Path, start: Start) -> None:
    process = start(store_workers.append, 0.3, root, log)
    wait_for(log, "put", 3)
    for turn in range(20 if FULL else 3):
        away = root.rename(root.with_name("away"))
        wait_for(log, "gone", turn + 1)
        count = len(events(log))
        time.sleep(0.05)
        assert not root.exists()  # nothing is made in its place
        away.rename(root)
        wait_for(log, "put", sum(e["event"] == "put" for e in events(log)) + 2)
        assert len(events(log)) > count
    log.with_name("stop").touch()
    process.join(10)
    assert process.exitcode == 0 and events(log)[-1]["event"] == "held"
    store = Store(root)
    put = [e["key"] for e in events(log) if e["event"] == "put"]
    assert store.verify().ok and set(put) <= store.keys_of_records() and not store.locks()


def big(folder: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"w": np.random.default_rng(0).random(3 << 17)}, folder / "model.safetensors")  # 3 MB


def test_a_full_disk(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    kept = store.put_artifact(key("victim"), victim_recipe(), fill)
    with pytest.raises(StoreFull, match="no space is left in the store .*gc"):
        store.put_artifact(key("big"), victim_recipe(), big)
    written, held = 0, []
    with pytest.raises(StoreFull):
        for written in range(10_000):
            store.put_record(key(written), record(written, payload=5000))
    with pytest.raises(StoreFull):
        store.put_failure(key("failed"), record("failed", payload=5000))
    with pytest.raises(StoreFull):
        for i in range(10_000):
            held.append(store.lock(key(("job", i))))
    assert written > 10 and held and store.keys_of_records() == {key(i) for i in range(written)}
    assert store.verify().ok and not list((store.root / "temp").iterdir()) and store.artifact(key("victim")) == kept
    assert len(store.summaries()) == written  # reading needs no space
    for lock in held:
        assert lock is not None and lock.held
        lock.renew()
        lock.release()  # nor does giving back
    assert not store.locks() and not list((store.root / "claims").iterdir())
    store.place("records", key(0), ".json").unlink()
    store.place("records", key(1), ".json").unlink()
    store.put_record(key(0), record(0, payload=5000))
    assert store.record(key(0)) == record(0, payload=5000)


@pytest.mark.parametrize("call", ["write", "fsync", "link", "mkdir", "rename", "open"])
@pytest.mark.parametrize("code", [28, 122, 5], ids=["ENOSPC", "EDQUOT", "EIO"])
def test_any_call_may_fail_at_any_time(root: Path, call: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th call of a kind fails, for every n: an error is raised, nothing half-written is ever seen."""
    store = Store(root)
    real, left = getattr(os, call), [0]

    def failing(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            named = arguments[0] if isinstance(arguments[0], str | Path) else None
            raise OSError(code, os.strerror(code), named)
        return real(*arguments, **options)

    for place in range(1, 60):
        failed = 0
        for put in (
            lambda: store.put_record(key(place), record(place)),  # noqa: B023
            lambda: store.put_artifact(key(place), victim_recipe(), fill),  # noqa: B023
            lambda: store.put_failure(key(place), record(place)),  # noqa: B023
        ):
            with monkeypatch.context() as patch:
                left[0] = place
                patch.setattr(os, call, failing)
                try:
                    put()
                except StoreError as error:
                    failed += 1
                    assert str(root) in str(error) and "\n" not in str(error)
                    assert isinstance(error, (StoreTrouble if code == 5 else StoreFull, StoreGone))
        assert store.record(key(place)) in (None, record(place)) and store.failure(key(place)) in (None, record(place))
        assert not list((root / "damaged").iterdir()) and store.verify().ok
        store.put_record(key(place), record(place))
        store.put_artifact(key(place), victim_recipe(), fill)
        if not failed:
            return
    pytest.fail("the calls never ended")


def filled(store: Store) -> None:
    store.put_artifact(key("victim"), victim_recipe(), fill)
    store.put_record(key(1), record(1))
    store.put_record(key(2), record(2))
    store.place("records", key(2), ".json").write_bytes(b"torn")


def test_a_store_without_write_permission(start: Start) -> None:
    with tempfile.TemporaryDirectory() as folder:  # where another user gets to, unlike tmp_path
        root = Path(folder, "store")
        filled(Store(root))
        everything = [root.parent, root, *root.rglob("*")]
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        reader = start(store_workers.read_only, 10, root)
        reader.join(60)
        for path in everything:
            path.chmod(0o755 if path.is_dir() else 0o644)
        assert reader.exitcode == 0


def test_a_read_only_file_system(small_disk: Path) -> None:
    filled(Store(small_disk / "store"))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    store = Store(small_disk / "store")
    assert store.record(key(1)) == record(1) and store.record(key(2)) is None and len(store.summaries()) == 1
    for write in (
        lambda: store.put_record(key(3), record(3)),
        lambda: store.put_artifact(key(3), {}, fill),
        lambda: store.lock(key(3)),
    ):
        with pytest.raises(StoreReadOnly, match="cannot be written"):
            write()
    with pytest.raises(RequestError, match="cannot be written"):
        Store(small_disk / "new")


def test_flipped_and_missing_bytes_are_all_found(root: Path) -> None:
    """Each fault on its own: a random byte of a random file is changed, or its end cut off, and then read."""
    store, dice = Store(root), random.Random(3)
    for i in range(5):
        store.put_record(key(i), record(i, payload=2000))
        store.put_artifact(key(("victim", i)), victim_recipe(i), fill)
    targets = sorted(
        [*(root / "records").rglob("*.json"), *(p for p in (root / "artifacts").rglob("*") if p.is_file())]
    )  # noqa: E501
    faults = 1000
    for i in range(faults):
        path = dice.choice(targets)
        whole = path.read_bytes()
        place = dice.randrange(len(whole))
        cut = dice.random() < 0.3
        path.write_bytes(
            whole[:place]
            if cut
            else whole[:place] + bytes([whole[place] ^ dice.randrange(1, 256)]) + whole[place + 1 :]
        )  # noqa: E501
        artifacts._verified.clear()
        name = path.relative_to(root).parts[2]
        content = store.record(name.removesuffix(".json")) if name.endswith(".json") else store.artifact(name)
        assert content is None, f"fault {i} in {path} at {place} was not noticed"
        aside = list((root / "damaged").iterdir())
        assert len(aside) == 1
        # Mend it where it lies and put it back.
        home = path if name.endswith(".json") else store.place("artifacts", name)
        aside[0].rename(home)
        path.write_bytes(whole)
    assert store.verify().ok
    print(f"\n{faults} faults in {len(targets)} files, all found")


def test_a_thousand_faults_at_once_are_found_by_one_check(root: Path) -> None:
    store, dice = Store(root), random.Random(4)
    count = 1000 if FULL else 100
    hit = set()
    for i in range(count + 20):
        store.put_record(key(i), record(i))
    for i in range(count):
        path = store.place("records", key(i), ".json")
        whole = bytearray(path.read_bytes())
        whole[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        path.write_bytes(whole)
        hit.add(key(i))
    store.summaries()  # a table that is made first takes the same care
    assert len(list((root / "damaged").iterdir())) == count
    assert store.keys_of_records() == {key(i) for i in range(count, count + 20)} and store.verify().ok
