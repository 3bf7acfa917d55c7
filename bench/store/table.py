"""Summaries of many records, fast: what was read of a record once is kept, for all records together, in columns.

The single files stay the truth. A row of a file of columns is used only while its record's file has the size, the times
of last change and the inode that it had when it was read; so a record that changed, vanished or was set aside is never
taken from it, and one that was added is read.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError
from bench.keys import canonical
from bench.store.documents import Damaged, read_bytes
from bench.store.layout import check_key, drop_tree, guarded
from bench.store.records import Records
from bench.store.troubles import Unreadable

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

VERSION = b"1"  # of the columns; files of another version are not read
SMALLEST_PART = 1000  # records; fewer are not worth a file, and are read again next time
MOST_PARTS = 16  # more files than that are merged into one
BATCH = 5000  # records held as Python objects at a time
FIELDS = (
    "kind",
    "role",
    "status",
    "error",
    "cell",
    "victim_key",
    "victim_weights",
    "defended_weights",
    "metrics",
    "notes",
    "seconds",
    "environment",
)  # of a record; recipe and predictions stay in its file
PREDICTED = "predicted"  # whether it has predictions
STAMP = ("file.size", "file.modified", "file.changed", "file.inode")
_KEY = "key"


@dataclass(frozen=True)
class Summaries:
    """What is kept of records, without their recipes and predictions.

    Attributes:
        keys: of the usable records, in the order that was asked for.
        table: their columns.
        unreadable: why the system cannot read the file of a record, by key.
    """

    keys: Sequence[str]
    table: pa.Table
    unreadable: Mapping[str, str]

    def __len__(self) -> int:
        """How many records there are."""
        return len(self.keys)

    def texts(self, field: str) -> list[str]:
        """Return a field of every record as canonical JSON; equal texts are one object. ``null`` where it is absent."""
        return self._column(field, str)

    def values(self, field: str) -> list[Any]:
        """Return a field of every record as JSON values; equal ones are one object, which nobody may change."""
        return self._column(field, json.loads)

    @cached_property
    def stamps(self) -> list[tuple[int, ...]]:
        """Size, times of last change (ns) and inode of the file of every record."""
        return list(zip(*(self.table[name].to_pylist() for name in STAMP), strict=True))

    def _column(self, field: str, read: Any) -> list[Any]:
        column: list[Any] = []
        for chunk in self.table[field].chunks:
            coded = chunk.dictionary_encode()
            values = [read(text) for text in coded.dictionary.to_pylist()]
            column += [values[i] for i in coded.indices.to_pylist()]
        return column


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what is kept of a record: each field as canonical JSON."""
    kept = {name: canonical(record.get(name)) for name in FIELDS}
    return {**kept, PREDICTED: canonical(bool(record.get("predictions")))}


class TabulatedRecords(Records):
    """Records as columns."""

    @guarded
    def summaries(self, keys: Iterable[str] | None = None) -> Summaries:
        """Return what is kept of each usable record of ``keys``, in that order; of all keys, ascending, by default."""
        import pyarrow as pa

        stamps = self.scan("records")
        wanted = sorted(stamps) if keys is None else [k for k in dict.fromkeys(map(check_key, keys)) if k in stamps]
        missing = dict.fromkeys(wanted)
        parts = {path: part for path in sorted((self.root / "compact").glob("*.arrow")) for part in self._load(path)}
        tables = [_chosen(part, stamps, missing) for part in parts.values()]
        unreadable: dict[str, str] = {}
        if missing:
            fresh = pa.concat_tables([_empty(), *self._read_tables(list(missing), stamps, unreadable)])
            tables.append(fresh)
            if len(fresh) >= SMALLEST_PART:
                self._keep(fresh)
        if len(parts) > MOST_PARTS:
            self._merge(parts)
        table = pa.concat_tables([_empty(), *tables]).combine_chunks()
        unordered = table[_KEY].to_pylist()
        rows = {key: row for row, key in enumerate(unordered)}
        order = [key for key in wanted if key in rows]
        if order != unordered:
            table = _rows(table, [rows[key] for key in order])
        return Summaries(order, table, unreadable)

    def _read_tables(
        self, keys: Sequence[str], stamps: Mapping[str, tuple[int, ...]], unreadable: dict[str, str]
    ) -> Iterator[pa.Table]:
        """Yield tables of records that are read from their files; what cannot be read is added to ``unreadable``."""
        import pyarrow as pa

        for start in range(0, len(keys), BATCH):
            rows = []
            for key in keys[start : start + BATCH]:
                try:
                    record = self.record(key)
                except Unreadable as error:
                    unreadable[key] = str(error)
                    continue
                if record is not None:
                    stamp: dict[str, Any] = dict(zip(STAMP, stamps[key], strict=True))
                    rows.append({_KEY: key, **stamp, **summary(record)})
            yield pa.Table.from_pylist(rows, schema=_schema())

    def _keep(self, table: pa.Table) -> Path | None:
        """Write rows as a file of columns that is named by the hash of its content."""
        content = _to_bytes(table)
        path = self.root / "compact" / f"{hashlib.sha256(content).hexdigest()}.arrow"
        try:
            with self.guard():
                self.write_new(path, content)
        except RequestError as error:
            log.info("records stay without a compact copy: %s", error)  # it only saves time
            return None
        return path

    def _merge(self, parts: Mapping[Path, pa.Table]) -> None:
        """Replace files of columns by one, without the rows of records that are no longer as they were."""
        import pyarrow as pa

        stamps = self.scan("records")
        unseen = dict.fromkeys(stamps)
        merged = self._keep(pa.concat_tables([_chosen(part, stamps, unseen) for part in parts.values()]))
        for path in parts if merged else ():
            if path != merged:
                drop_tree(path)

    def _load(self, path: Path) -> Iterator[pa.Table]:
        """Yield the table in a file of columns, if it can be used."""
        try:
            content = read_bytes(path)
            if hashlib.sha256(content).hexdigest() != path.stem:
                raise Damaged("its content does not match its name")
        except FileNotFoundError:
            return  # another process has just merged it
        except Damaged as error:
            self.set_aside(path, error, still_bad=lambda moved: True)
        else:
            yield from _from_bytes(content)


def _chosen(part: pa.Table, stamps: Mapping[str, tuple[int, ...]], missing: dict[str, None]) -> pa.Table:
    """Return the rows of records that are missing and whose files are unchanged; these are no longer missing then."""
    columns = (part[name].to_pylist() for name in (_KEY, *STAMP))
    rows = []
    for row, (key, *stamp) in enumerate(zip(*columns, strict=True)):
        if key in missing and stamps[key] == tuple(stamp):
            rows.append(row)
            del missing[key]
    return part if len(rows) == len(part) else _rows(part, rows)


def _rows(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    import pyarrow as pa

    taken: pa.Table = table.take(pa.array(rows, type=pa.int64()))
    return taken


def _schema() -> pa.Schema:
    import pyarrow as pa

    texts = [(name, pa.large_string()) for name in (_KEY, *FIELDS, PREDICTED)]
    stamp = [(name, pa.uint64() if name == "file.inode" else pa.int64()) for name in STAMP]
    return pa.schema([*texts, *stamp], metadata={b"version": VERSION})


def _empty() -> pa.Table:
    table: pa.Table = _schema().empty_table()
    return table


def _to_bytes(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _from_bytes(content: bytes) -> Iterator[pa.Table]:
    """Yield the table in a file of columns; nothing where another version of the program wrote it."""
    import pyarrow as pa

    table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
    if table.schema.equals(_schema(), check_metadata=True):
        yield table
