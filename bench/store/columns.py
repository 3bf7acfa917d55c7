"""Files of columns: what was made of records once is kept, for many records together.

The single files stay the truth. A row of a file of columns is used only while its record's file has the size, the times
of last change and the inode that it had when it was read; so a record that changed, vanished or was set aside is never
taken from it, and one that was added is read.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import RequestError
from bench.store.documents import Damaged, read_bytes
from bench.store.layout import drop_tree
from bench.store.records import Records, Stamp

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

MOST_PARTS = 16  # more files than that are merged into one
KEY = "key"
STAMP = ("file.size", "file.modified", "file.changed", "file.inode")


class Columns(Records):
    """Records, and files of columns with what was made of them."""

    def parts(self, kind: str, schema: pa.Schema, names: Sequence[str] | None = None) -> dict[Path, pa.Table]:
        """Return the files of columns of a kind that can be used; one of another schema or version is not.

        Of their columns those of the key, of the stamp, and of ``names``; all by default.
        """
        wanted = schema.names if names is None else [name for name in schema.names if name in {KEY, *STAMP, *names}]
        files = sorted((self.root / "compact").glob(f"*.{kind}"))
        return {path: part for path in files for part in self._load(path, schema, wanted)}

    def keep(self, kind: str, table: pa.Table) -> Path | None:
        """Write rows as a file of columns that is named by the hash of its content."""
        content = _to_bytes(table)
        path = self.root / "compact" / f"{hashlib.sha256(content).hexdigest()}.{kind}"
        try:
            with self.guard():
                self.write_new(path, content)
        except RequestError as error:
            log.info("records stay without a compact copy: %s", error)  # it only saves time
            return None
        return path

    def merge(self, kind: str, schema: pa.Schema) -> None:
        """Replace too many files of columns by one, without the rows of records that are no longer as they were."""
        import pyarrow as pa

        if sum(1 for _ in (self.root / "compact").glob(f"*.{kind}")) <= MOST_PARTS:
            return
        if len(parts := self.parts(kind, schema)) <= MOST_PARTS:  # others are of another version
            return
        stamps = self.scan("records")
        table = pa.concat_tables([schema.empty_table(), *parts.values()])
        rows = rows_of(table, list(stamps), stamps)
        merged = self.keep(kind, table.take(rows[rows >= 0]))
        for path in parts if merged else ():
            if path != merged:
                drop_tree(path)

    def _load(self, path: Path, schema: pa.Schema, names: Sequence[str]) -> Iterator[pa.Table]:
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
            yield from _from_bytes(content, schema, names)


def rows_of(table: pa.Table, keys: Sequence[str], stamps: Mapping[str, Stamp]) -> NDArray[np.int64]:
    """Return for each key the row of its record, as its file is now; -1 where the table has none."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    places = pc.index_in(table[KEY], value_set=pa.array(keys, type=pa.large_string()))
    at = places.fill_null(-1).to_numpy()  # where the key of each row is among the keys
    same = at >= 0
    columns = zip(*map(stamps.__getitem__, keys), strict=True) if keys else ((),) * len(STAMP)
    for name, column in zip(STAMP, columns, strict=True):
        kept = table[name].to_numpy()
        same &= kept == np.array(column, dtype=kept.dtype)[at] if column else False
    rows = np.full(len(keys), -1, dtype=np.int64)
    rows[at[same]] = np.flatnonzero(same)
    return rows


def schema_of(fields: Mapping[str, pa.DataType], version: bytes) -> pa.Schema:
    """Return the schema of columns with these fields, beside the key and the stamp of a record's file."""
    import pyarrow as pa

    stamp = {name: pa.uint64() if name == "file.inode" else pa.int64() for name in STAMP}
    return pa.schema({KEY: pa.large_string(), **fields, **stamp}, metadata={b"version": version})


def _to_bytes(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _from_bytes(content: bytes, schema: pa.Schema, names: Sequence[str]) -> Iterator[pa.Table]:
    import pyarrow as pa

    if pa.ipc.open_file(pa.BufferReader(content)).schema.equals(schema, check_metadata=True):
        options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in names])
        yield pa.ipc.open_file(pa.BufferReader(content), options=options).read_all()
