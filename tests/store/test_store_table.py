"""Many records as one table: the compact copy never says anything that the single files do not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.store import Store, records, table
from bench.store.documents import wrap
from bench.store.table import Columns, flatten
from tests.store.samples import key, record


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(table, "SMALLEST_PART", 3)
    monkeypatch.setattr(table, "BATCH", 4)
    store = Store(tmp_path / "store")
    for i in range(10):
        store.put_record(key(i), record(i))
    return store


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The keys whose single files were read."""
    seen: list[str] = []
    real = records.Records.record
    monkeypatch.setattr(records.Records, "record", lambda self, key: (seen.append(key), real(self, key))[1])
    yield seen


def expected(store: Store, keys: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame([flatten(stored) for stored in store.records(keys)]).sort_index(axis=1)
    mixed = [name for name in frame.columns if frame[name].dtype == object]
    return frame.assign(**{name: frame[name].where(frame[name].notna(), None) for name in mixed})


def agree(store: Store, keys: list[str] | None = None) -> pd.DataFrame:
    """Compare the table with one made from the single files; twice, so that it also comes from the compact copy."""
    order = sorted(store.keys_of_records()) if keys is None else keys
    for _ in range(2):
        frame = store.records_table(keys)
        pd.testing.assert_frame_equal(frame, expected(store, order))
    return frame


def test_flatten_keeps_scalars_only() -> None:
    flat = flatten(record(1))
    assert flat["metrics.asr"] == 4.5 and flat["recipe.victim.attack.parameters.rate"] == 0.1 and flat["error"] is None
    assert not any(name.startswith("predictions") or "tried" in name or "words" in name for name in flat)
    assert flatten({"a": {"predictions": 1}, "predictions": None, "b": {}, "c": []}) == {"a.predictions": 1}


names = st.sampled_from(["a", "b", "a.b", "c"])
trees = st.recursive(st.none() | st.integers() | st.text(max_size=2), lambda t: st.dictionaries(names, t, max_size=3))


@given(st.lists(st.dictionaries(names, trees, max_size=3), max_size=6))
def test_columns_are_the_leaves_row_by_row(rows: list[dict[str, Any]]) -> None:
    columns = Columns()
    for row in rows:
        columns.add(row)
    assert all(len(column) == len(rows) for column in columns.lists.values())
    for i, row in enumerate(rows):
        flat = flatten(row)
        assert {name: column[i] for name, column in columns.lists.items()} == dict.fromkeys(columns.lists) | flat


def test_the_table_is_what_the_files_say(store: Store, reads: list[str]) -> None:
    frame = agree(store)
    assert len(frame) == 10 and frame["metrics.frr"].isna().all() and frame["cell.seed"].dtype == "int64"
    reads.clear()
    store.records_table()
    assert not reads  # all from the compact copy
    assert list(store.records_table([key(7), key("absent"), key(2), key(7)])["key"]) == [key(7), key(2)]


def test_an_empty_store_gives_an_empty_table(tmp_path: Path) -> None:
    assert list(Store(tmp_path / "empty").records_table()["key"]) == []


def test_new_records_join(store: Store, reads: list[str]) -> None:
    store.records_table()
    store.put_record(key("later"), record("later", extra={"new": 1}, error="text now"))
    reads.clear()
    assert store.records_table([key("later")])["extra.new"].item() == 1 and reads == [key("later")]
    assert agree(store)["error"].notna().sum() == 1


def test_columns_of_mixed_types_come_back(store: Store) -> None:
    for i, value in enumerate((1, 2.5, "text", None, True, 2**70)):
        store.put_record(key(("mixed", i)), record(("mixed", i), value=value))
    values = agree(store).set_index("key")["value"]
    assert (
        values[key(("mixed", 2))] == "text" and values[key(("mixed", 4))] is True and values[key(("mixed", 5))] == 2**70
    )


def test_half_a_surrogate_pair_is_shown_as_a_question_mark(store: Store) -> None:
    store.put_record(key("odd"), record("odd", status="a\ud800b", **{"na\udfffme": 1}))
    row = store.records_table().set_index("key").loc[key("odd")]
    assert row["status"] == "a?b" and row["na?me"] == 1
    assert store.record(key("odd")) == record("odd", status="a\ud800b", **{"na\udfffme": 1})


def test_what_changed_vanished_or_broke_is_not_served(store: Store) -> None:
    store.records_table()
    removed, broken, changed = (store.place("records", key(i), ".json") for i in (1, 2, 3))
    removed.unlink()
    broken.write_bytes(broken.read_bytes()[:-10])
    changed.write_bytes(wrap(record(3, status="n/a ")))
    os.utime(changed)
    frame = agree(store, [key(i) for i in range(10) if i not in (1, 2)])
    assert frame.set_index("key")["status"][key(3)] == "n/a "
    assert set(store.records_table()["key"]) == {key(i) for i in range(10)} - {key(1), key(2)}
    assert len(list((store.root / "damaged").iterdir())) == 1


def test_a_change_of_the_same_size_is_noticed_by_its_time(store: Store) -> None:
    store.records_table()
    path = store.place("records", key(1), ".json")
    path.write_bytes(wrap(record(1, status="DONE")))
    assert store.records_table([key(1)])["status"].item() == "DONE"


def test_a_damaged_compact_copy_is_not_used(store: Store) -> None:
    store.records_table()
    for part in (store.root / "compact").iterdir():
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.write_bytes(content)
    assert len(agree(store)) == 10


def test_many_parts_become_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MOST_PARTS", 2)
    for turn in range(5):
        for i in range(3):
            store.put_record(key((turn, i)), record((turn, i)))
        store.records_table()
    assert len(list((store.root / "compact").iterdir())) <= 3
    assert len(agree(store)) == 25


def test_a_part_that_vanishes_is_read_anew(store: Store) -> None:
    store.records_table()
    for part in (store.root / "compact").iterdir():
        part.unlink()
    assert len(agree(store)) == 10
