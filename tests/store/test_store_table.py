"""Many records as columns: what is kept never says anything that the single files do not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.store import Store, columns, records, table
from bench.store.documents import wrap
from bench.store.table import FIELDS, PREDICTED, Summaries, summary
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


def lines(summaries: Summaries) -> list[dict[str, str]]:
    columns = {name: summaries.texts(name) for name in (*FIELDS, PREDICTED)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def agree(store: Store, keys: list[str] | None = None) -> Summaries:
    """Compare with the single files; twice, so that it also comes from what is kept."""
    order = sorted(store.keys_of_records()) if keys is None else keys
    for _ in range(2):
        summaries = store.summaries(keys)
        single = list(store.records(order))
        assert list(summaries.keys) == [one["key"] for one in single]
        assert lines(summaries) == [summary(one) for one in single]
    return summaries


def path(store: Store, i: object) -> Path:
    return store.place("records", key(i), ".json")


def parts(store: Store) -> list[Path]:
    return sorted((store.root / "compact").glob("*.arrow"))


def test_a_summary_has_what_tables_need_and_no_predictions() -> None:
    kept = summary(record(1))
    assert json.loads(kept["metrics"])["asr"] == 4.5 and kept["error"] == "null" and kept[PREDICTED] == "true"
    assert json.loads(kept["notes"]) == record(1)["notes"] and "recipe" not in kept and "gold" not in str(kept)
    assert summary(record(1, predictions=None))[PREDICTED] == "false"


def test_the_columns_are_what_the_files_say(store: Store, reads: list[str]) -> None:
    summaries = agree(store)
    assert len(summaries) == 10 and summaries.values("victim_key")[0] in {key(("victim", i)) for i in range(10)}
    reads.clear()
    store.summaries()
    assert not reads  # all from what is kept
    assert list(store.summaries([key(7), key("absent"), key(2), key(7)]).keys) == [key(7), key(2)]


def test_an_interrupted_reading_keeps_what_it_has_read(
    store: Store, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = records.Records.record

    def interrupted(self: Store, wanted: str) -> object:
        if len(reads) == 9:
            raise KeyboardInterrupt
        return read(self, wanted)

    monkeypatch.setattr(records.Records, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.summaries()
    assert len(parts(store)) == 1
    monkeypatch.setattr(records.Records, "record", read)
    reads.clear()
    agree(store)
    assert len(set(reads[:2])) == 2, "eight of ten are in two batches that were kept"


def test_a_long_reading_is_kept_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "LARGEST_LOSS", 4)
    store.summaries()
    assert len(parts(store)) == 2, "of four records each; two are too few"
    agree(store)


def test_an_empty_store_has_no_summaries(tmp_path: Path) -> None:
    assert list(Store(tmp_path / "empty").summaries().keys) == []


def test_new_records_join(store: Store, reads: list[str]) -> None:
    store.summaries()
    store.put_record(key("later"), record("later", error="text now"))
    reads.clear()
    assert store.summaries([key("later")]).values("error") == ["text now"] and reads == [key("later")]
    assert len(agree(store)) == 11


def test_half_a_surrogate_pair_stays(store: Store) -> None:
    store.put_record(key("odd"), record("odd", status="a\ud800b", notes={"na\udfffme": 1}))
    summaries = store.summaries([key("odd")])
    assert summaries.values("status") == ["a\ud800b"] and summaries.values("notes") == [{"na\udfffme": 1}]


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _flip_and_reset_the_time(file: Path) -> None:
    before = file.stat()
    _flip(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace_by_a_link(file: Path) -> None:
    moved = file.with_suffix(".moved")
    file.rename(moved)
    file.symlink_to(moved)


def _replace_by_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "harm",
    [Path.unlink, _truncate, _flip, _flip_and_reset_the_time, _replace_by_a_link, _replace_by_a_folder],
)
def test_what_vanished_or_broke_is_not_hidden(store: Store, harm: Callable[[Path], object]) -> None:
    store.summaries()
    harm(path(store, 1))
    assert set(store.summaries().keys) == {key(i) for i in range(10)} - {key(1)}
    assert len(list((store.root / "damaged").iterdir())) == (harm is not Path.unlink)
    agree(store)


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_change_of_the_same_size_is_noticed(store: Store, keep_time: bool) -> None:
    store.summaries()
    before = path(store, 1).stat()
    path(store, 1).write_bytes(wrap(record(1, status="DONE")))
    if keep_time:
        os.utime(path(store, 1), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path(store, 1).stat().st_size == before.st_size
    assert store.summaries([key(1)]).values("status") == ["DONE"]
    agree(store)


def test_a_file_in_the_place_of_another_is_noticed(store: Store) -> None:
    store.summaries()
    before = path(store, 1).stat()
    other = store.root / "temp" / "other"
    other.write_bytes(wrap(record(1, status="DONE")))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path(store, 1))
    assert store.summaries([key(1)]).values("status") == ["DONE"]


def test_a_record_under_another_key_is_not_taken_for_it(store: Store) -> None:
    store.summaries()
    shutil.copy2(path(store, 2), path(store, 1))
    assert key(1) not in store.summaries().keys


def test_a_record_that_cannot_be_read_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = records.read_bytes

    def failing(file: Path) -> bytes:
        if file == path(store, 3):
            raise OSError(5, "Input/output error")
        return real(file)

    monkeypatch.setattr(records, "read_bytes", failing)
    summaries = store.summaries()
    assert (
        len(summaries) == 9
        and list(summaries.unreadable) == [key(3)]
        and "Input/output" in summaries.unreadable[key(3)]
    )
    monkeypatch.undo()
    assert len(store.summaries()) == 10


@pytest.mark.parametrize("harm", [_truncate, _flip, lambda file: file.write_bytes(b""), Path.unlink])
def test_a_damaged_part_is_not_used(store: Store, harm: Callable[[Path], object]) -> None:
    store.summaries()
    for part in parts(store):
        harm(part)
    assert len(agree(store)) == 10


def test_a_part_of_another_version_is_not_used(store: Store, monkeypatch: pytest.MonkeyPatch, reads: list[str]) -> None:
    store.summaries()
    monkeypatch.setattr(table, "VERSION", b"later")
    reads.clear()
    store.summaries()
    assert len(reads) == 10


def test_many_parts_become_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MOST_PARTS", 2)
    for turn in range(5):
        for i in range(3):
            store.put_record(key((turn, i)), record((turn, i)))
        store.summaries()
    assert len(parts(store)) <= 3
    assert len(agree(store)) == 25


def test_parts_of_another_version_are_not_merged_again_and_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MOST_PARTS", 2)
    for version in (b"1", b"2", b"3", b"4"):
        monkeypatch.setattr(table, "VERSION", version)
        store.summaries()
    assert len(parts(store)) == 4
    monkeypatch.setattr(Store, "scan", lambda self, room: pytest.fail("looked at every record"))
    store.merge("arrow", table._schema())


def test_a_store_that_cannot_be_written_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Store, path: Path, content: bytes) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "write_new", full)
    assert len(agree(store)) == 10 and not parts(store)
