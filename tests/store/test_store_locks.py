"""Locks: exactly one holder, a dead one's successor within two heartbeats, no clock compared."""

from __future__ import annotations

import errno
import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import RequestError
from bench.store import Lock, Store, identity
from bench.store import locks as locks
from bench.store.identity import Owner, me, process_state
from bench.store.layout import drop_tree
from bench.store.pulse import pulse
from tests.store.samples import key

BEAT = 1.0  # seconds; a busy machine may keep a thread waiting for half of it
K = key("locked")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("DOORBENCH_HEARTBEAT", str(BEAT))
    return Store(tmp_path / "store")


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """See every owner as one on another machine."""
    monkeypatch.setattr(Owner, "alive", lambda self: None)


def take(store: Store, name: str = K) -> Lock:
    lock = store.lock(name)
    assert lock is not None
    return lock


def files(store: Store) -> list[str]:
    return sorted(str(path.relative_to(store.root / "claims")) for path in (store.root / "claims").rglob("*"))


def plant(store: Store, owner: Owner, content: str = "") -> Path:
    """Leave a lock as a process does that died."""
    path = store.root / "claims" / K / f"{owner.label}.{'0' * 12}"
    path.parent.mkdir()
    path.write_text(content or json.dumps({"host": "there", "since": 0.0, "period": BEAT, "beats": "0"}))
    return path


DEAD = Owner("d" * 32, "here", me().machine, 2**22 + 1, 1)
REUSED = Owner("d" * 32, "here", me().machine, os.getpid(), me().started + 1)
AWAY = Owner("e" * 32, "away", "0" * 16, os.getpid(), me().started)


def test_one_holder_at_a_time(store: Store) -> None:
    with take(store) as lock:
        assert lock.held and store.lock(K) is None
        assert [(c.key, c.pid, c.alive) for c in store.locks()] == [(K, os.getpid(), True)]
        with take(store, key("other")):
            assert len(store.locks()) == 2
    assert not lock.held and files(store) == [] and store.locks() == []
    lock.release()  # once more does no harm
    take(store).release()


def test_waiting_ends_with_the_release(store: Store) -> None:
    first = take(store)
    threading.Timer(0.2, first.release).start()
    began = time.monotonic()
    second = store.lock(K, wait=5)
    assert second is not None and 0.1 < time.monotonic() - began < 4
    assert store.lock(K, wait=0.1) is None
    second.release()


def test_of_many_threads_one_wins(store: Store) -> None:
    plant(store, DEAD)
    gate, won = threading.Barrier(8), []

    def race() -> None:
        gate.wait()
        if lock := store.lock(K):
            won.append(lock)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert sum(thread.name == "doorbench heartbeat" for thread in threading.enumerate()) == 1
    won[0].release()
    assert files(store) == []


def test_races_of_takers_holders_and_the_dying_have_one_winner(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many threads on one key; a holder gives back, or dies at some point, and every file operation may be slow."""
    dead: set[str] = set()
    critical, wins, overlaps, limit = threading.Lock(), [0], [], time.monotonic() + 60
    monkeypatch.setattr(locks, "_dead", lambda path, owner, period: path.name in dead)
    for module, name in ((locks, "_file"), (os, "rename"), (Path, "unlink"), (Path, "rmdir"), (locks, "write_file")):
        monkeypatch.setattr(module, name, slow(getattr(module, name)))

    def live(seed: int) -> None:
        dice = random.Random(seed)
        while wins[0] < 300 and time.monotonic() < limit:
            if (lock := store.lock(K)) is None:
                continue
            if not critical.acquire(blocking=False):
                overlaps.append(seed)
                return
            wins[0] += 1
            time.sleep(dice.uniform(0, 1e-3))
            critical.release()
            end = dice.random()
            if end >= 0.4:
                pulse.remove(lock)  # the dead have no pulse
            if end < 0.4:
                lock.release()
            elif end < 0.7:
                dead.add(lock.path.name)
            elif end < 0.8:  # dies while it gives back
                lock.path.unlink()
            else:  # is taken for dead, is succeeded, and wakes
                dead.add(lock.path.name)
                time.sleep(dice.uniform(0, 5e-3))
                lock.release()

    threads = [threading.Thread(target=live, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not overlaps and wins[0] >= 300, (overlaps, wins, files(store))


def slow(function: Callable[..., Any]) -> Callable[..., Any]:
    dice = random.Random(5)

    def slowed(*arguments: Any, **options: Any) -> Any:
        time.sleep(dice.choice((0, 0, 1e-4, 1e-3)))
        result = function(*arguments, **options)
        time.sleep(dice.choice((0, 0, 1e-4, 1e-3)))
        return result

    return slowed


@pytest.mark.parametrize("owner", [DEAD, REUSED])
def test_a_dead_neighbour_is_succeeded_at_once(store: Store, owner: Owner) -> None:
    plant(store, owner)
    assert [(c.host, c.alive) for c in store.locks()] == [("there", False)]
    lock = take(store)
    assert [(c.pid, c.alive) for c in store.locks()] == [(os.getpid(), True)] and store.lock(K) is None
    lock.release()
    assert files(store) == []


def test_a_stopped_neighbour_counts_by_its_heartbeat(store: Store) -> None:
    assert me().alive() is True and AWAY.alive() is None and DEAD.alive() is False and REUSED.alive() is False
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
    os.kill(child, 19)
    os.waitpid(child, os.WUNTRACED)
    state = process_state(child)
    assert state is not None and Owner("x", "", me().machine, child, state[1]).alive() is None
    os.kill(child, 9)
    while process_state(child)[0] != "Z":  # type: ignore[index]
        time.sleep(0.01)
    assert Owner("x", "", me().machine, child, state[1]).alive() is False  # a zombie does nothing any more
    os.waitpid(child, 0)


@pytest.mark.parametrize("content", ["", "torn", '{"host": 1, "since": null, "period": 1e99}', "[]", "long" * 99])
def test_one_elsewhere_is_succeeded_within_two_heartbeats(store: Store, content: str) -> None:
    plant(store, AWAY, content)
    began = time.monotonic()
    lock = store.lock(K, wait=10 * BEAT)
    assert lock is not None and BEAT <= time.monotonic() - began <= 2 * BEAT + 0.5
    assert json.loads(lock.path.read_bytes())["host"] == me().host  # the file is ours now, all of it
    lock.release()
    assert files(store) == []


@pytest.mark.usefixtures("foreign")
def test_one_elsewhere_that_lives_keeps_its_claim(store: Store) -> None:
    with take(store) as lock:
        assert store.lock(K, wait=5 * BEAT) is None
        assert lock.held and [c.alive for c in store.locks()] == [True]


@pytest.mark.usefixtures("foreign")
def test_wall_clocks_do_not_matter(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter(range(10**9, 10**12, 86400 * 365))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)) * (-1) ** next(jumps))
    with take(store) as lock:
        assert store.lock(K, wait=3 * BEAT) is None and lock.held
    plant(store, AWAY)
    lock = store.lock(K, wait=3 * BEAT)
    assert lock is not None
    lock.release()


def test_a_look_after_a_long_pause_is_not_enough(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(store, AWAY)
    now = time.monotonic()
    for pause, taken in ((0, False), (1000, False), (1000, True)):
        now += pause
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        lock = store.lock(K)
        assert (lock is not None) == taken
    assert lock is not None
    lock.release()


def test_a_claim_that_was_taken_over_stays_with_its_successor(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = take(store)
    with monkeypatch.context() as patch:
        patch.setattr(Owner, "alive", lambda self: False)
        successor = take(store)
    assert not sleeper.held and successor.held
    content = successor.path.read_bytes()
    sleeper.renew()  # it wakes, and does what it would have done
    assert successor.path.read_bytes() == content
    sleeper.release()
    assert successor.held and store.lock(K) is None
    successor.release()
    assert files(store) == [] and successor.held is False


def test_what_a_process_leaves_that_dies_while_giving_back(store: Store) -> None:
    (store.root / "claims" / K).mkdir()
    assert store.locks() == []
    take(store).release()
    assert files(store) == []


def test_a_free_key_is_taken_where_folders_do_not_replace_empty_ones(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if os.path.isdir(target):
            raise FileExistsError(errno.EEXIST, "not here")
        real(source, target)

    (store.root / "claims" / K).mkdir()
    monkeypatch.setattr(os, "rename", rename)
    with take(store):
        assert store.lock(K) is None
    assert files(store) == []


@pytest.mark.parametrize("before", [None, DEAD])
def test_a_reply_that_is_lost_does_not_lose_the_claim(
    store: Store, before: Owner | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS sends a call again when no reply came; the second one fails, as the first one was done."""
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        real(source, target)
        real(source, target)

    if before:
        plant(store, before)
    monkeypatch.setattr(os, "rename", rename)
    with take(store) as lock:
        assert lock.held and store.lock(K) is None


@pytest.mark.parametrize("half", [False, True])
def test_a_release_that_fails_is_tried_again(store: Store, half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, real, trouble = take(store), Path.unlink, [1, 1]

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if half:
            real(path, missing_ok=True)
        if trouble:
            raise OSError(errno.ESTALE, f"the server rests {trouble.pop()}")
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    lock.release()
    if not half:
        assert store.lock(K) is None  # still ours, as far as others can see
    end = time.monotonic() + 5
    while files(store) and time.monotonic() < end:
        time.sleep(0.01)
    assert files(store) == [] and not trouble


def test_a_child_does_not_release_its_parents_lock(store: Store) -> None:
    with take(store) as lock:
        child = os.fork()
        if not child:
            lock.release()
            os._exit(0 if store.lock(K) is None and me().pid == os.getpid() else 1)
        assert os.waitpid(child, 0)[1] == 0 and lock.held


def test_what_is_no_claim_is_left_alone(store: Store, tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", store.root / "claims" / K
    outside.mkdir()
    for make in (
        lambda: folder.symlink_to(outside),
        lambda: folder.write_text("x"),
        lambda: plant(store, DEAD).with_name("stranger").write_text("x"),
        lambda: folder.mkdir() or (folder / "stranger").write_text("x"),
        lambda: folder.mkdir() or (folder / f"{AWAY.label}.0").symlink_to(outside / "x"),
    ):
        make()
        with pytest.raises(RequestError, match="remove it"):
            store.lock(K)
        assert os.path.lexists(folder) and not list(outside.iterdir())
        drop_tree(folder)


@pytest.mark.parametrize("text", ["0", "-1", "ten", "nan", "inf", "1e9"])
def test_a_heartbeat_that_is_none_is_an_error(store: Store, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOORBENCH_HEARTBEAT", text)
    with pytest.raises(RequestError, match="seconds"):
        store.lock(K)


def test_without_proc_only_heartbeats_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "machine", lambda: "")
    assert Owner("x", "", "", 1, 1).alive() is None and DEAD.alive() is None
