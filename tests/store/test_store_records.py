"""Records: written once, whole or not there; folders that can and cannot be stores."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import RequestError
from bench.store import Store, StoreGone
from bench.store.documents import SCHEMA, Damaged, Newer, unwrap, wrap
from tests.store.samples import key, record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def damaged(store: Store) -> list[Path]:
    return sorted((store.root / "damaged").iterdir())


def test_a_record_comes_back_as_it_was(store: Store) -> None:
    stored = record(1)
    assert store.record(stored["key"]) is None
    store.put_record(stored["key"], stored)
    assert store.record(stored["key"]) == stored
    assert store.has_record(stored["key"]) and store.keys_of_records() == {stored["key"]}
    assert json.loads(store.place("records", stored["key"], ".json").read_bytes())["record"] == stored
    assert not list((store.root / "temp").iterdir())


def test_the_first_writer_wins(store: Store) -> None:
    store.put_record(key(1), record(1))
    store.put_record(key(1), record(1, status="other"))
    assert store.record(key(1)) == record(1)


def test_records_in_the_order_asked_for(store: Store) -> None:
    for i in range(5):
        store.put_record(key(i), record(i))
    assert [r["key"] for r in store.records([key(3), key("absent"), key(0)])] == [key(3), key(0)]
    assert [r["key"] for r in store.records()] == sorted(key(i) for i in range(5))


def test_failures_are_replaced_and_are_not_records(store: Store) -> None:
    store.put_failure(key(1), record(1, status="failed", error="first"))
    store.put_failure(key(1), record(1, status="failed", error="second"))
    failure = store.failure(key(1))
    assert failure is not None and failure["error"] == "second"
    assert store.record(key(1)) is None and store.keys_of_failures() == {key(1)}
    store.drop_failure(key(1))
    store.drop_failure(key(1))
    assert store.failure(key(1)) is None


@pytest.mark.parametrize("content", [{"schema": 1}, {"key": key(2), "schema": 1}, {"key": key(1)}])
def test_a_record_without_its_key_and_schema_is_refused(store: Store, content: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="schema"):
        store.put_record(key(1), content)


def test_what_json_cannot_hold_is_refused(store: Store) -> None:
    with pytest.raises(ValueError):
        store.put_record(key(1), record(1, metrics={"acc": float("nan")}))
    assert store.keys_of_records() == set()


HOSTILE = [
    "",
    "x",
    "../" + "a" * 61,
    "A" * 64,
    "a" * 63,
    "a" * 65,
    "a" * 64 + "\n",
    "a" * 63 + "\0",
    "а" * 64,
    "１" * 64,
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_keys_never_touch_the_disk(store: Store, hostile: str) -> None:
    before = sorted(store.root.rglob("*"))
    for use in (store.record, store.failure, store.artifact, store.lock, store.drop_failure, store.artifact_recipe):
        with pytest.raises(ValueError, match="not a key"):
            use(hostile)
    with pytest.raises(ValueError):
        store.put_record(hostile, {**record(1), "key": hostile})
    with pytest.raises(ValueError):
        store.put_artifact(hostile, {}, lambda folder: None)
    with pytest.raises(ValueError):
        store.summaries([hostile])
    assert sorted(store.root.rglob("*")) == before


@given(st.text())
def test_only_64_hex_digits_are_a_key(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    with pytest.raises(ValueError):
        Store(tmp_path_factory.getbasetemp() / "keys").record(text)


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(documents)
def test_any_json_survives(value: object) -> None:
    document = {"schema": SCHEMA, "key": key(1), "value": value}
    assert unwrap(wrap(document), key=key(1)) == document


@settings(max_examples=300)
@given(st.data())
def test_every_flip_and_truncation_is_seen(data: st.DataObject) -> None:
    raw = wrap(record(1))
    place = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        changed = raw[:place]
    else:
        changed = raw[:place] + bytes([raw[place] ^ data.draw(st.integers(1, 255))]) + raw[place + 1 :]
    with pytest.raises(Damaged):
        unwrap(changed, key=key(1))


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 500, wrap(record(2)), wrap({"key": key(1)}), b"[" * 100_000])
def test_a_damaged_record_is_set_aside_and_made_again(
    store: Store, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store.put_record(key(1), record(1))
    store.place("records", key(1), ".json").write_bytes(content)
    with caplog.at_level(logging.ERROR):
        assert store.record(key(1)) is None
    assert "set aside" in caplog.text
    assert [path.read_bytes() for path in damaged(store)] == [content]
    store.put_record(key(1), record(1))
    assert store.record(key(1)) == record(1)


def test_writing_over_a_damaged_record_sets_it_aside(store: Store) -> None:
    store.put_record(key(1), record(1))
    store.place("records", key(1), ".json").write_bytes(b"torn")
    store.put_record(key(1), record(1))
    assert store.record(key(1)) == record(1) and len(damaged(store)) == 1


def test_a_record_rebuilt_by_another_process_is_put_back(store: Store) -> None:
    store.put_record(key(1), record(1))
    path = store.place("records", key(1), ".json")
    store.set_aside(path, "as it was when we read it", still_bad=lambda moved: False)
    assert store.record(key(1)) == record(1) and not damaged(store)


def test_links_folders_and_pipes_are_no_records(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_bytes(wrap(record(1)))
    for i, make in enumerate((lambda p: p.symlink_to(outside), Path.mkdir, os.mkfifo)):
        path = store.place("records", key(1), ".json")
        path.parent.mkdir(exist_ok=True)
        make(path)
        assert store.record(key(1)) is None
        assert len(damaged(store)) == i + 1
    assert outside.read_bytes() == wrap(record(1))


def test_a_record_from_the_future_is_left_alone(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    path = store.place("records", key(1), ".json")
    path.parent.mkdir()
    future = wrap({**record(1), "schema": SCHEMA + 1, "news": True})
    path.write_bytes(future)
    assert store.record(key(1)) is None and "upgrade" in caplog.text
    assert len(store.summaries()) == 0
    with pytest.raises(RequestError, match="upgrade"):
        store.put_record(key(1), record(1))
    assert store.verify().newer[0].key == key(1)
    assert path.read_bytes() == future and not damaged(store)
    with pytest.raises(Newer):
        unwrap(future, key=key(1))


def test_writes_do_not_follow_links(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (store.root / "records" / key(1)[:2]).symlink_to(outside)
    (store.root / "temp").rmdir()
    (store.root / "temp").symlink_to(outside)
    with pytest.raises(RequestError, match="link"):
        store.put_record(key(1), record(1))
    with pytest.raises(RequestError, match="link"):
        store.put_artifact(key(1), {}, lambda folder: None)
    assert not list(outside.iterdir())


def test_a_link_in_place_of_a_record_is_not_written_through(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    for room, put in (("records", store.put_record), ("failures", store.put_failure)):
        path = store.place(room, key(1), ".json")
        path.parent.mkdir()
        path.symlink_to(outside)
        put(key(1), record(1))
        assert not outside.exists() and not path.is_symlink()


def test_a_store_is_made_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "a" / "b")
    assert json.loads((store.root / "store.json").read_text()) == {"format": 1, "id": store.id}
    store.put_record(key(1), record(1))
    assert pickle.loads(pickle.dumps(Store(tmp_path / "a" / "b"))).record(key(1)) == record(1)
    monkeypatch.setenv("DOORBENCH_STORE", str(store.root))
    assert Store().root == store.root
    monkeypatch.delenv("DOORBENCH_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert Store().root == tmp_path / "cache" / "doorbench"


@pytest.mark.parametrize("text", ['{"format": 2, "x": []}', "", "{", "[1]", '{"format": "1"}', "\xff"])
def test_a_newer_or_damaged_store_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    Store(tmp_path / "store")
    (tmp_path / "store" / "store.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RequestError) as caught:
        Store(tmp_path / "store")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert ("upgrade" if "2" in text else "is damaged") in str(caught.value)


def test_a_file_or_a_foreign_folder_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for root in (tmp_path / "file", tmp_path):
        with pytest.raises(RequestError):
            Store(root)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_vanished_store_does_not_look_empty(store: Store) -> None:
    store.put_record(key(1), record(1))
    away = store.root.rename(store.root.with_name("away"))
    for use in (store.record, store.artifact, store.failure, store.lock):
        with pytest.raises(StoreGone, match="gone"):
            use(key(1))
    for ask in (store.keys_of_records, store.keys_of_artifacts, store.locks, store.summaries, store.verify):
        with pytest.raises(StoreGone):
            ask()
    with pytest.raises(StoreGone):
        store.put_record(key(2), record(2))
    assert not store.root.exists()
    away.rename(store.root)
    assert store.record(key(1)) == record(1)


def test_a_store_is_opened_without_heavy_imports() -> None:
    code = "import sys, bench.store; print([m for m in ('torch', 'pandas', 'pyarrow', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
