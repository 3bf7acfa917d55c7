"""Claims: exactly one holder, a dead one's successor within two heartbeats, no clock compared."""

from __future__ import annotations

import errno
import json
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bench.errors import RequestError
from bench.store import Claim, Store, claims, identity
from bench.store.claims import Claims
from bench.store.identity import Owner, me, process_state
from bench.store.pulse import pulse
from tests.store.samples import key

BEAT = 0.4
K = key("claimed")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("DOORBENCH_HEARTBEAT", str(BEAT))
    return Store(tmp_path / "store")


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """See every owner as one on another machine."""
    monkeypatch.setattr(Owner, "alive", lambda self: None)


def take(store: Store, name: str = K) -> Claim:
    claim = store.claim(name)
    assert claim is not None
    return claim


def files(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "claims").iterdir())


def plant(store: Store, owner: Owner | None, *, after: str = "", token: str = "a" * 32) -> Path:
    """Write a claim file as a process would that died later."""
    path = store.claim_path(K, after)
    about = {"owner": asdict(owner or me()), "token": token, "since": 0.0, "period": BEAT, "beats": "0"}
    path.write_text(json.dumps(about) if owner else "")
    return path


DEAD = Owner("d" * 32, "here", me().machine, 2**22 + 1, 1)
REUSED = Owner("d" * 32, "here", me().machine, os.getpid(), me().started + 1)
AWAY = Owner("e" * 32, "away", "0" * 16, os.getpid(), me().started)


def test_one_holder_at_a_time(store: Store) -> None:
    with take(store) as claim:
        assert claim.held and store.claim(K) is None
        assert [(c.key, c.pid, c.alive) for c in store.claims()] == [(K, os.getpid(), True)]
        with take(store, key("other")):
            assert len(store.claims()) == 2
    assert not claim.held and files(store) == [] and store.claims() == []
    claim.release()  # once more does no harm
    take(store).release()


def test_waiting_ends_with_the_release(store: Store) -> None:
    first = take(store)
    threading.Timer(0.2, first.release).start()
    began = time.monotonic()
    second = store.claim(K, wait=5)
    assert second is not None and 0.1 < time.monotonic() - began < 4
    assert store.claim(K, wait=0.1) is None
    second.release()


def test_of_many_threads_one_wins(store: Store) -> None:
    plant(store, DEAD)
    gate, won = threading.Barrier(8), []

    def race() -> None:
        gate.wait()
        if claim := store.claim(K):
            won.append(claim)

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
    monkeypatch.setattr(Claims, "_dead", lambda self, link, period: link.ended or link.token in dead)
    for module, name in ((claims, "_make"), (claims, "_read"), (claims, "_link"), (Path, "unlink")):
        monkeypatch.setattr(module, name, slow(getattr(module, name)))

    def live(seed: int) -> None:
        dice = random.Random(seed)
        while wins[0] < 300 and time.monotonic() < limit:
            if (claim := store.claim(K)) is None:
                continue
            if not critical.acquire(blocking=False):
                overlaps.append(seed)
                return
            wins[0] += 1
            time.sleep(dice.uniform(0, 1e-3))
            critical.release()
            end = dice.random()
            if end >= 0.4:
                pulse.remove(claim)  # the dead have no pulse
            if end < 0.4:
                claim.release()
            elif end < 0.7:
                dead.add(claim._token)
            else:  # dies while it gives back: the end is marked, and a part of the chain is gone
                gone = dice.randrange(len(claim._chain) + 1)
                claims._link(claim._chain[-1], store.claim_path(K, claim._token))
                for path in claim._chain[:gone]:
                    path.unlink()

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
    assert [c.alive for c in store.claims()] == [False]
    claim = take(store)
    assert files(store) == [K, f"{K}.{'a' * 32}"] and store.claim(K) is None
    claim.release()
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


@pytest.mark.parametrize("owner", [AWAY, None])
def test_one_elsewhere_is_succeeded_within_two_heartbeats(store: Store, owner: Owner | None) -> None:
    plant(store, owner)
    began = time.monotonic()
    claim = store.claim(K, wait=10 * BEAT)
    assert claim is not None and BEAT <= time.monotonic() - began <= 2 * BEAT + 0.2
    claim.release()
    assert files(store) == []


@pytest.mark.usefixtures("foreign")
def test_one_elsewhere_that_lives_keeps_its_claim(store: Store) -> None:
    with take(store) as claim:
        assert store.claim(K, wait=5 * BEAT) is None
        assert claim.held and [c.alive for c in store.claims()] == [True]


@pytest.mark.usefixtures("foreign")
def test_wall_clocks_do_not_matter(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter(range(10**9, 10**12, 86400 * 365))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)) * (-1) ** next(jumps))
    with take(store) as claim:
        assert store.claim(K, wait=3 * BEAT) is None and claim.held
    plant(store, AWAY)
    claim = store.claim(K, wait=3 * BEAT)
    assert claim is not None
    claim.release()


def test_a_look_after_a_long_pause_is_not_enough(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(store, AWAY)
    now = time.monotonic()
    for pause, taken in ((0, False), (1000, False), (1000, True)):
        now += pause
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        claim = store.claim(K)
        assert (claim is not None) == taken
    assert claim is not None
    claim.release()


def test_a_claim_that_was_taken_over_stays_with_its_successor(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = take(store)
    with monkeypatch.context() as patch:
        patch.setattr(Owner, "alive", lambda self: False)
        successor = take(store)
    assert not sleeper.held and successor.held
    sleeper.renew()  # it wakes, and does what it would have done
    sleeper.release()
    assert successor.held and store.claim(K) is None
    successor.release()
    assert files(store) == [] and successor.held is False


@pytest.mark.parametrize("step", ["marked", "first removed"])
def test_a_release_that_broke_off_is_finished_by_the_next(store: Store, step: str) -> None:
    first = plant(store, me(), token="b" * 32)
    store.claim_path(K, "b" * 32).hardlink_to(first)
    if step == "first removed":
        first.unlink()
    claim = take(store)
    claim.release()
    assert files(store) == ([] if step == "marked" else [f"{K}.{'b' * 32}"])
    assert [path.name for path in store.orphan_claims()] == files(store)


def test_following_a_chain_that_has_just_ended_is_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A racer reads a dead claim, is put to sleep, and wakes when others have taken it over and given it back."""
    old = claims._read(plant(store, DEAD))
    old.path.unlink()
    real, stale = store._chain, [[old]]
    monkeypatch.setattr(store, "_chain", lambda key: stale.pop() if stale else real(key))
    claim = take(store)
    assert not stale and files(store) == [K]
    claim.release()


def test_a_release_that_fails_is_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, real, trouble = take(store), os.link, [1, 1]

    def link(path: Path, name: Path) -> None:
        if trouble:
            raise OSError(errno.ESTALE, f"the server rests {trouble.pop()}")
        real(path, name)

    monkeypatch.setattr(os, "link", link)
    claim.release()
    assert store.claim(K) is None  # still ours, as far as others can see
    second = store.claim(K, wait=5)
    assert second is not None and not trouble
    second.release()


def test_a_release_that_failed_half_way_is_finished(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, real, trouble = take(store), Path.unlink, [1]

    def unlink(path: Path, missing_ok: bool = False) -> None:
        real(path, missing_ok)
        if trouble:
            raise OSError(errno.ESTALE, f"the server rests {trouble.pop()}")

    monkeypatch.setattr(Path, "unlink", unlink)
    claim.release()
    assert len(files(store)) == 1  # the first is gone, the mark is there
    while files(store):
        time.sleep(0.01)
    assert not trouble


def test_without_hard_links_all_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(path: Path, name: Path) -> None:
        raise OSError(errno.ENOTSUP, "no links here")

    monkeypatch.setattr(os, "link", link)
    test_one_holder_at_a_time(store)
    test_a_claim_that_was_taken_over_stays_with_its_successor(store, monkeypatch)
    store.put_record(K, {"schema": 1, "key": K})
    store.put_record(K, {"schema": 1, "key": K, "second": True})
    assert store.record(K) == {"schema": 1, "key": K}


def test_a_child_does_not_give_back_its_parents_claim(store: Store) -> None:
    with take(store) as claim:
        child = os.fork()
        if not child:
            claim.release()
            os._exit(0 if store.claim(K) is None and me().pid == os.getpid() else 1)
        assert os.waitpid(child, 0)[1] == 0 and claim.held


@pytest.mark.parametrize("token", ["../../x", "", "a" * 65, 7, None])
def test_a_token_that_is_none_is_never_a_path(store: Store, token: object) -> None:
    plant(store, AWAY, token=token)  # type: ignore[arg-type]
    claim = store.claim(K, wait=5 * BEAT)  # such a file rests for ever
    assert claim is not None
    claim.release()
    assert files(store) == []


def test_links_and_circles_among_claims_are_refused(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    store.claim_path(K).symlink_to(outside)
    with pytest.raises(RequestError, match="link"):
        store.claim(K)
    assert not outside.exists()
    store.claim_path(K).unlink()
    plant(store, DEAD)
    plant(store, DEAD, after="a" * 32, token="b" * 32)
    plant(store, DEAD, after="b" * 32)
    with pytest.raises(RequestError, match="lead nowhere"):
        store.claim(K)


@pytest.mark.parametrize("text", ["0", "-1", "ten", "nan", "inf", "1e9"])
def test_a_heartbeat_that_is_none_is_an_error(store: Store, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOORBENCH_HEARTBEAT", text)
    with pytest.raises(RequestError, match="seconds"):
        store.claim(K)


def test_without_proc_only_heartbeats_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "machine", lambda: "")
    assert Owner("x", "", "", 1, 1).alive() is None and DEAD.alive() is None
