"""What takes long to compute from a record, kept for many records together, in columns of bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.store.columns import KEY, STAMP, Columns, rows_of, schema_of
from bench.store.documents import Damaged, Newer, read_with_status, unwrap
from bench.store.records import Stamp, stamp

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 5000  # values that are computed before they are written; fewer are computed again next time


@dataclass(frozen=True)
class Derivation:
    """How something is computed from a record.

    Attributes:
        kind: how its files of columns end.
        version: of the code that computes it; what other versions computed is not used.
        fields: of a value.
        compute: returns the fields of a record, given as its JSON document; None stands for nothing.
    """

    kind: str
    version: str
    fields: tuple[str, ...]
    compute: Callable[[Mapping[str, Any]], Mapping[str, bytes | None]]


class Derived:
    """What is computed from some records of a store: taken from the columns that it keeps, or computed when asked.

    Args:
        store: that has the records, and keeps the columns.
        derivation: how it is computed.
        stamps: of the files of the records, by key, from when they were found to be sound.
        sound: returns the document of a record whose file is no longer as it was.
    """

    def __init__(
        self,
        store: Columns,
        derivation: Derivation,
        stamps: Mapping[str, Stamp],
        sound: Callable[[str], Mapping[str, Any]],
    ) -> None:
        self._store, self._derivation, self._stamps, self._sound = store, derivation, stamps, sound
        self._computed: dict[str, Mapping[str, bytes | None]] = {}
        self._unwritten: list[dict[str, Any]] = []

    def field(self, key: str, name: str) -> bytes | None:
        """Return a field of the value of a record."""
        row = self._rows.get(key, -1)
        if row >= 0:
            return self._columns[name][row]
        if key not in self._computed:
            self._computed[key] = self._compute(key)
        return self._computed[key].get(name)

    def _compute(self, key: str) -> Mapping[str, bytes | None]:
        path = self._store.place("records", key, ".json")
        try:
            raw, status = read_with_status(path)
            whole = stamp(status) == self._stamps[key]
            document = unwrap(raw, key=key) if whole else None
        except (OSError, Damaged, Newer):
            document = None
        if document is None:
            return self._derivation.compute(self._sound(key))
        value = self._derivation.compute(document)
        self._unwritten.append({KEY: key, **dict(zip(STAMP, self._stamps[key], strict=True)), **value})
        if len(self._unwritten) >= BATCH:
            self._write()
        return value

    def _write(self) -> None:
        import pyarrow as pa

        self._store.keep(self._derivation.kind, pa.Table.from_pylist(self._unwritten, schema=self._schema))
        self._unwritten.clear()

    @cached_property
    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        fields = dict.fromkeys(self._derivation.fields, pa.large_binary())
        return schema_of(fields, self._derivation.version.encode())

    @cached_property
    def _kept(self) -> pa.Table:
        import pyarrow as pa

        self._store.merge(self._derivation.kind, self._schema)
        parts = self._store.parts(self._derivation.kind, self._schema)
        return pa.concat_tables([self._schema.empty_table(), *parts.values()]).combine_chunks()

    @cached_property
    def _rows(self) -> dict[str, int]:
        """The row of each record whose value is kept."""
        keys: Sequence[str] = list(self._stamps)
        return dict(zip(keys, rows_of(self._kept, keys, self._stamps).tolist(), strict=True))

    @cached_property
    def _columns(self) -> Mapping[str, Sequence[bytes | None]]:
        """The kept values of each field that was asked for."""
        return _Columns(self._kept)


class _Columns(dict[str, Sequence[bytes | None]]):
    """Columns of a table as Python's values, each from when it is asked for."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __missing__(self, name: str) -> Sequence[bytes | None]:
        return self.setdefault(name, self._table[name].to_pylist())
