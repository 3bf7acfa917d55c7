"""Summaries of many records, fast: what most readers ask for, for all records together, in columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.keys import canonical
from bench.store.columns import KEY, STAMP, Columns, rows_of, schema_of
from bench.store.layout import check_key, guarded
from bench.store.records import Stamp
from bench.store.troubles import Unreadable

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

KIND = "arrow"  # how their files end
VERSION = b"1"  # of the columns; files of another version are not read
SMALLEST_PART = 1000  # records; fewer are not worth a file, and are read again next time
LARGEST_LOSS = 25_000  # records; so many are kept before others are read, as the process may be killed
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


@dataclass(frozen=True)
class Summaries:
    """What is kept of records, without their recipes and predictions.

    Attributes:
        keys: of the usable records, in the order that was asked for.
        table: their columns, in any order, and other rows among them.
        rows: int64 [keys], the row of each in the table.
        unreadable: why the system cannot read the file of a record, by key.
    """

    keys: Sequence[str]
    table: pa.Table
    rows: NDArray[np.int64]
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
    def stamps(self) -> list[Stamp]:
        """Size, times of last change (ns) and inode of the file of every record."""
        return list(zip(*(self.table[name].to_numpy()[self.rows].tolist() for name in STAMP), strict=True))

    def _column(self, field: str, read: Any) -> list[Any]:
        coded = self.table[field].take(self.rows).combine_chunks().dictionary_encode()
        values = [read(text) for text in coded.dictionary.to_pylist()]
        return [values[i] for i in coded.indices.to_numpy().tolist()]


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what is kept of a record: each field as canonical JSON."""
    kept = {name: canonical(record.get(name)) for name in FIELDS}
    return {**kept, PREDICTED: canonical(bool(record.get("predictions")))}


class TabulatedRecords(Columns):
    """Records as columns."""

    @guarded
    def summaries(self, keys: Iterable[str] | None = None, *, fields: Sequence[str] | None = None) -> Summaries:
        """Return what is kept of each usable record of ``keys``, in that order; of all keys, ascending, by default.

        With ``fields``, only these.
        """
        import numpy as np
        import pyarrow as pa

        stamps = self.scan("records")
        wanted = sorted(stamps) if keys is None else [k for k in dict.fromkeys(map(check_key, keys)) if k in stamps]
        parts = list(self.parts(KIND, _schema(), fields).values())
        table = pa.concat_tables(parts or [_schema().empty_table()])
        rows = rows_of(table, wanted, stamps)
        unreadable: dict[str, str] = {}
        if missing := [wanted[i] for i in np.flatnonzero(rows < 0)]:
            fresh = self._read_and_keep(missing, stamps, unreadable)
            table = pa.concat_tables([table, fresh.select(table.column_names)])
            rows = rows_of(table, wanted, stamps)
            self.merge(KIND, _schema())
        usable = np.flatnonzero(rows >= 0)
        keys = wanted if len(usable) == len(wanted) else [wanted[i] for i in usable]
        return Summaries(keys, table, rows[usable], unreadable)

    def _read_and_keep(self, keys: Sequence[str], stamps: Mapping[str, Stamp], unreadable: dict[str, str]) -> pa.Table:
        """Return the table of records that are read from their files, and keep what an interruption leaves of it."""
        import pyarrow as pa

        parts, unkept = [_schema().empty_table()], _schema().empty_table()
        try:
            for part in self._read_tables(keys, stamps, unreadable):
                parts.append(part)
                unkept = pa.concat_tables([unkept, part])
                if len(unkept) >= LARGEST_LOSS:
                    self.keep(KIND, unkept)
                    unkept = unkept.slice(0, 0)
        finally:
            if len(unkept) >= SMALLEST_PART:
                self.keep(KIND, unkept)
        return pa.concat_tables(parts)

    def _read_tables(
        self, keys: Sequence[str], stamps: Mapping[str, Stamp], unreadable: dict[str, str]
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
                    rows.append({KEY: key, **stamp, **summary(record)})
            yield pa.Table.from_pylist(rows, schema=_schema())


def _schema() -> pa.Schema:
    import pyarrow as pa

    return schema_of({name: pa.large_string() for name in (*FIELDS, PREDICTED)}, VERSION)
