"""What the processes do that the fault tests kill, stop and starve."""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.store import Store, StoreReadOnly
from bench.store.identity import Owner
from tests.store.samples import fill, key, record, victim_recipe


def notebook(path: Path) -> Callable[[str, str], None]:
    """Return a function that appends an event with the monotonic time, which all processes of a machine share."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(event: str, key: str) -> None:
        line = {"event": event, "key": key, "pid": os.getpid(), "time": time.monotonic()}
        os.write(handle, json.dumps(line).encode() + b"\n")

    return note


def jumping_clock() -> None:
    """Let the wall clock of this process jump by years, back and forth, at every look."""
    now, dice = time.time_ns() / 1e9, random.Random(os.getpid())
    time.time = lambda: now + dice.uniform(-1e9, 1e9)


def run(work: Callable[..., None], heartbeat: float, *arguments: object, **options: object) -> None:
    """Do the work with a heartbeat period in seconds."""
    os.environ["DOORBENCH_HEARTBEAT"] = str(heartbeat)
    work(*arguments, **options)


def produce(root: Path, log: Path, names: list[str], *, foreign: bool, seconds: float) -> None:
    """Make an artifact and a record for every name that nobody else is at work on, until all are there.

    Args:
        foreign: see every other process as one on another machine, with another clock, so that only heartbeats tell.
        seconds: the longest that one name takes.
    """
    if foreign:
        jumping_clock()
        Owner.alive = lambda self: None  # type: ignore[method-assign]
    store, note, dice = Store(root), notebook(log), random.Random()
    left = {record(name)["key"]: name for name in names}
    while left:
        key = dice.choice(list(left))
        if store.has_record(key):
            del left[key]
        elif (lock := store.lock(key)) is None:
            time.sleep(0.002)
        else:
            with lock:
                if not store.has_record(key):
                    note("enter", key)
                    store.put_artifact(key, victim_recipe(), fill)
                    time.sleep(dice.uniform(0, seconds))
                    store.put_record(key, record(left[key], maker=os.getpid()))
                    note("leave", key)


def hold(root: Path, log: Path, name: str) -> None:
    """Lock one name, say so, and put a record of our own when we are told that the file ``go`` is there."""
    store, note, key = Store(root), notebook(log), record(name)["key"]
    lock = store.lock(key)
    assert lock is not None
    with lock:
        note("enter", key)
        while not log.with_name("go").exists():
            time.sleep(0.01)
        note("held" if lock.held else "lost", key)
        store.put_record(key, record(name, maker="sleeper"))
    note("leave", key)


def append(root: Path, log: Path) -> None:
    """Put one record after another; where the store is gone, wait for it."""
    from bench.store import StoreGone

    store, note, i = Store(root), notebook(log), 0
    lock = store.lock(record("all the time")["key"])
    assert lock is not None
    with lock:
        while not log.with_name("stop").exists():
            key = record(i)["key"]
            try:
                store.put_record(key, record(i))
                assert store.record(key) == record(i)
            except StoreGone:
                note("gone", key)
                time.sleep(0.02)
            else:
                note("put", key)
                i += 1
        note("held" if lock.held else "lost", lock.key)


def read_only(root: Path) -> None:
    """Read everything in a store that we may not write, and try to write."""
    with tempfile.TemporaryDirectory() as folder:  # imports what nobody else may read, as in a home folder
        warm = Store(Path(folder, "store"))
        warm.put_record(key(1), record(1))
        warm.put_artifact(key("victim"), victim_recipe(), fill)
        look(warm)
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    store = Store(root)
    look(store)
    assert store.record(key(1)) == record(1) and store.artifact(key("victim")) is not None
    assert store.record(key(2)) is None  # damaged; it cannot be set aside and is not used
    assert list(store.summaries().keys) == [key(1)] and len(store.ls()) == 2 and "done" in store.explain(key(1))
    for write in (
        lambda: store.put_record(key(3), record(3)),
        lambda: store.put_record(key(2), record(2)),
        lambda: store.put_failure(key(3), record(3)),
        lambda: store.put_artifact(key(3), {}, fill),
        lambda: store.lock(key(3)),
        lambda: store.gc(keep=set(), apply=True),
        lambda: Store(root / "records" / "new"),
    ):
        try:
            write()
        except StoreReadOnly as error:
            assert str(root) in str(error) and "\n" not in str(error), error
        else:
            raise AssertionError("written")


def look(store: Store) -> None:
    """Use everything that reads."""
    assert len(store.summaries()) == 1 and len(store.ls()) == 2 and store.explain(key(1)) and not store.locks()
    store.verify()
