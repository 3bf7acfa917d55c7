"""Looking after a store: verify, ls, explain, diff, gc."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bench.errors import RequestError
from bench.store import Store, gc, identity, words
from bench.store.identity import Owner, me
from tests.store.samples import fill, key, plugin, record, victim_recipe

DAY = 86400


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three victims, last used 3, 2 and 1 days ago, two records and a failure."""
    store = Store(tmp_path / "store")
    for i in range(3):
        path = store.put_artifact(key(("victim", i)), victim_recipe(i, rate=0.1 * (i + 1)), fill)
        os.utime(path / "manifest.json", (0, time.time() - (3 - i) * DAY - 60))
    for i in range(2):
        store.put_record(key(i), record(i))
    store.put_failure(key("bad"), record("bad", status="failed", error="out of memory", metrics=None))
    return store


def victims(store: Store) -> list[bool]:
    return [store.place("artifacts", key(("victim", i))).exists() for i in range(3)]


def test_verify_finds_all_damage_and_nothing_else(store: Store) -> None:
    report = store.verify()
    assert report.ok and report.checked == {"records": 2, "failures": 1, "artifacts": 3}
    store.place("records", key(0), ".json").write_bytes(b"x")
    store.place("failures", key("bad"), ".json").write_bytes(b"x")
    (store.place("artifacts", key(("victim", 1))) / "victim.json").write_bytes(b"x")
    report = store.verify()
    assert {(p.room, p.key) for p in report.damaged} == {
        ("records", key(0)),
        ("failures", key("bad")),
        ("artifacts", key(("victim", 1))),
    }
    assert not report.ok and all(problem.reason for problem in report.damaged)
    assert store.verify().ok and len(list((store.root / "damaged").iterdir())) == 3


def test_ls_speaks_in_words(store: Store) -> None:
    rows = store.ls()
    assert [row.kind for row in rows] == ["victim"] * 3 + ["cell"] * 3
    first = next(row for row in rows if row.key == key(("victim", 0)))
    assert (first.task, first.model, first.seed, first.status) == ("reviews", "embedded", 0, "stored")
    assert first.attack.startswith("no-such-attack(rate=0.1, words=") and first.bytes > 100
    assert 3 * DAY < first.age < 4 * DAY
    cell = next(row for row in rows if row.key == key(1))
    assert (cell.attack, cell.defense, cell.status) == ("badword(rate=0.05)", "fine-tuning", "done")
    assert next(row for row in rows if row.key == key("bad")).status == "failed"


def test_plugins_are_spelt_with_what_differs_from_the_default() -> None:
    from bench.plugins import registry

    attack = registry.attacks.create("badword(rate=0.07)")
    assert words.plugin_words(attack.recipe(), registry.attacks) == attack.spec == "badword(rate=0.07)"
    chain = {"name": "a+b", "parts": [plugin("a"), plugin("b", x=1)]}
    assert words.plugin_words(chain, registry.defenses) == "a+b(x=1)"
    assert words.plugin_words(None, registry.defenses) == "none"
    assert words.plugin_words(plugin("badword", gone=3), registry.attacks) == "badword(gone=3)"  # an old version's


def test_explain_takes_the_beginning_of_a_key(store: Store) -> None:
    text = store.explain(key(("victim", 2))[:20])
    assert text.startswith(key(("victim", 2))) and "no-such-attack(rate=0.3" in text and "1 day ago" in text
    text = store.explain(key(1))
    assert "badword(rate=0.05) against fine-tuning on reviews, embedded, seed 1; done" in text and "asr 4.50" in text
    assert "failed: out of memory" in store.explain(key("bad"))


def test_keys_that_are_unknown_or_ambiguous_are_errors(store: Store) -> None:
    for wrong in ("", "zz", "../..", "0" * 64):
        with pytest.raises(RequestError, match="unknown key") as caught:
            store.explain(wrong)
        assert "\n" not in str(caught.value)
    taken: dict[str, int] = {}
    for i in range(40):
        store.put_record(key(("more", i)), record(("more", i)))
        taken[key(("more", i))[0]] = taken.get(key(("more", i))[0], 0) + 1
    with pytest.raises(RequestError, match="matches"):
        store.explain(max(taken, key=lambda digit: taken[digit]))


def test_diff_names_the_ingredients(store: Store) -> None:
    differences = store.diff(key(("victim", 0)), key(("victim", 1))[:16])
    assert differences == [("attack.parameters.rate", 0.1, 0.2), ("seed", 0, 1)]
    assert store.diff(key(0), key(0)) == []
    assert ("victim.seed", 0, 1) in store.diff(key(0), key(1))
    assert words.differences({"a": [1, 2], "b": {}}, {"a": [1], "c": 1, "b": {}}) == [
        ("a[1]", 2, words.ABSENT),
        ("c", words.ABSENT, 1),
    ]
    assert words.differences({"a": 1}, {"a": True}) == [("a", 1, True)]


def test_gc_says_first_and_frees_then(store: Store) -> None:
    kept = key(("victim", 0))
    planned = store.gc(keep={kept})
    assert [f.name for f in planned] == [key(("victim", 1)), key(("victim", 2))]
    assert not any(f.freed for f in planned) and victims(store) == [True] * 3
    done = store.gc(keep={kept}, apply=True)
    assert all(f.freed for f in done) and victims(store) == [True, False, False]
    assert [f.bytes for f in done] == [f.bytes for f in planned] and sum(f.bytes for f in done) > 1000
    assert store.keys_of_records() == {key(0), key(1)} and store.keys_of_failures() == {key("bad")}
    assert not list((store.root / "temp").iterdir()) and not store.locks()


def test_gc_with_a_cap_frees_what_rested_longest(store: Store) -> None:
    one = gc.tree_bytes(store.place("artifacts", key(("victim", 0))))
    assert [f.name for f in store.gc(keep=set(), cap_bytes=10 * one)] == []
    assert [f.name for f in store.gc(keep=set(), cap_bytes=2 * one + one // 2)] == [key(("victim", 0))]
    store.artifact(key(("victim", 0)))  # now it is the last used
    assert [f.name for f in store.gc(keep=set(), cap_bytes=2 * one + one // 2)] == [key(("victim", 1))]
    assert [f.name for f in store.gc(keep={key(("victim", 1))}, cap_bytes=0)] == [key(("victim", i)) for i in (2, 0)]


def test_gc_leaves_what_is_locked(store: Store) -> None:
    lock = store.lock(key(("victim", 1)))
    assert lock is not None
    with lock:
        assert key(("victim", 1)) not in [f.name for f in store.gc(keep=set(), apply=True)]
    assert victims(store) == [False, True, False]


def test_gc_spares_what_a_worker_may_be_loading(store: Store) -> None:
    store.artifact(key(("victim", 1)))
    with store.lock(key("a cell")) or pytest.fail("not locked"):
        assert [f.name for f in store.gc(keep=set())] == [key(("victim", i)) for i in (0, 2)]
    assert len(store.gc(keep=set())) == 3, "nobody is at work"


def leave(store: Store, owner: Owner, age: float) -> Path:
    folder = store.root / "temp" / f"{owner.label}.{'0' * 12}"
    folder.mkdir()
    (folder / "half.safetensors").write_bytes(b"x" * 100)
    for path in (folder / "half.safetensors", folder):
        os.utime(path, (time.time() - age,) * 2)
    return folder


def test_gc_clears_what_dead_processes_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Owner("d" * 32, "", me().machine, 2**22 + 1, 1)
    elsewhere = Owner("e" * 32, "", "0" * 16, 1, 1)
    old = [leave(store, dead, 2 * DAY), leave(store, elsewhere, 2 * DAY)]
    kept = [leave(store, Owner("f" * 32, "", me().machine, 2**22 + 1, 2), DAY / 2), leave(store, me(), 2 * DAY)]
    everything = store.keys_of_artifacts()
    assert {f.name for f in store.gc(keep=everything)} == {path.name for path in old}
    # The one elsewhere holds a lock, so it is still filling its folder.
    monkeypatch.setattr(identity, "_owner", lambda pid: elsewhere)
    with store.lock(key("work")) or pytest.fail("not locked"):
        monkeypatch.undo()
        freed = store.gc(keep=everything, apply=True)
        assert [f.name for f in freed] == [old[0].name] and freed[0].bytes == 100
    store.gc(keep=everything, apply=True)
    assert not any(path.exists() for path in old) and all(path.exists() for path in kept)


def test_gc_clears_claims_of_the_dead(store: Store) -> None:
    path = store.root / "claims" / key(5) / f"{Owner('d' * 32, '', me().machine, 2**22 + 1, 1).label}.0"
    path.parent.mkdir()
    path.write_text('{"host": "here", "since": 0, "period": 10}')
    assert [(f.kind, f.freed) for f in store.gc(keep=store.keys_of_artifacts())] == [("lock", False)]
    with store.lock(key(6)) or pytest.fail("not locked") as held:
        assert [(f.name, f.freed) for f in store.gc(keep=store.keys_of_artifacts(), apply=True)] == [(key(5), True)]
        assert not path.parent.exists() and held.held


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "less than a minute"), (60, "1 minute"), (7300, "2 hours"), (9e5, "10 days")]
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert words.ago(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1500, "1.5 kB"), (91_200_000, "91.2 MB"), (2.5e12, "2500.0 GB")]
)
def test_sizes_in_words(count: float, text: str) -> None:
    assert words.size(count) == text
