"""Many records as one table, fast: records that were read once are kept, flattened, in parquet files.

The single files stay the truth. A row of a parquet file is used only while its record's file has the size and the time
of last change that it had when it was read; so a record that changed, vanished or was set aside is never taken from it.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError
from bench.store.documents import Damaged, read_bytes
from bench.store.layout import check_key, drop_tree, guarded
from bench.store.records import Records

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

SMALLEST_PART = 1000  # records; fewer are not worth a file, and are read again next time
MOST_PARTS = 16  # more files than that are merged into one
BATCH = 5000  # records held as Python objects at a time
LEFT_OUT = "predictions"
_KEY, _SIZE, _TIME = "key", "file.size", "file.time"


def flatten(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return all scalar leaves of a record by their dotted path, without lists and ``predictions``."""
    columns = Columns()
    columns.add(record)
    return {name: values[0] for name, values in columns.lists.items()}


@dataclass
class _Branch:
    """A mapping inside records that was seen before: its columns and the mappings inside it."""

    prefix: str
    leaves: dict[str, list[Any]] = field(default_factory=dict)
    branches: dict[str, _Branch] = field(default_factory=dict)


class Columns:
    """Collects the scalar leaves of records by column. Remembering the tree makes it several times faster.

    Attributes:
        lists: one list for each path, all of the same length; None where a record lacks the path.
    """

    def __init__(self) -> None:
        self.lists: dict[str, list[Any]] = {}
        self._rows = 0
        self._root = _Branch("")

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a row."""
        self._add({name: value for name, value in record.items() if name != LEFT_OUT}, self._root)
        self._rows += 1
        for column in self.lists.values():
            if len(column) != self._rows:  # this record lacks the path, or spells it in two ways
                column[self._rows - 1 :] = [column[-1] if len(column) > self._rows else None]

    def _add(self, node: Mapping[str, Any], branch: _Branch) -> None:
        leaves, branches = branch.leaves, branch.branches
        for name, value in node.items():
            kind = type(value)
            if kind is dict:
                if name not in branches:
                    branches[name] = _Branch(f"{branch.prefix}{name}.")
                self._add(value, branches[name])
            elif kind is not list:
                if name not in leaves:
                    leaves[name] = self.lists.setdefault(f"{branch.prefix}{name}", [None] * self._rows)
                leaves[name].append(value)


class TabulatedRecords(Records):
    """Records as a pandas DataFrame."""

    @guarded
    def records_table(self, keys: Iterable[str] | None = None) -> pd.DataFrame:
        """Return one row for each usable record of ``keys``, in that order; of all keys, ascending, by default.

        Columns are the scalar leaves of the records by dotted path, in alphabetical order, without ``predictions``;
        what a record lacks is missing in its row.
        """
        import pandas as pd

        stamps = self.scan("records")
        wanted = sorted(stamps) if keys is None else [k for k in dict.fromkeys(map(check_key, keys)) if k in stamps]
        parts = {path: part for path in sorted((self.root / "compact").glob("*.parquet")) for part in self._load(path)}
        frames, missing = [], dict.fromkeys(wanted)
        for part in parts.values():
            stamped = zip(part[_KEY], part[_SIZE], part[_TIME], strict=True)
            rows = [i for i, (key, *stamp) in enumerate(stamped) if key in missing and stamps[key] == tuple(stamp)]
            frames.append(part if len(rows) == len(part) else part.iloc[rows])
            for key in frames[-1][_KEY]:
                del missing[key]
        if missing:
            fresh = _stacked(list(self._read_frames(list(missing), stamps)))
            frames.append(fresh)
            if len(fresh) >= SMALLEST_PART:
                self._keep(fresh)
        if len(parts) > MOST_PARTS:
            self._merge(parts)
        table = _stacked(frames)
        if len(table):
            place = pd.Series(range(len(wanted)), index=wanted)
            table = table.iloc[table[_KEY].map(place).argsort()]
        return table.drop(columns=[_SIZE, _TIME]).sort_index(axis=1).reset_index(drop=True)

    def _read_frames(self, keys: Sequence[str], stamps: Mapping[str, tuple[int, int]]) -> Iterator[pd.DataFrame]:
        for start in range(0, len(keys), BATCH):
            columns = Columns()
            for record in self.records(keys[start : start + BATCH]):
                size, changed = stamps[record[_KEY]]
                columns.add({**record, _SIZE: size, _TIME: changed})
            yield _frame(columns.lists)

    def _keep(self, frame: pd.DataFrame) -> Path | None:
        """Write rows as a parquet file that is named by the hash of its content."""
        content = _to_parquet(frame)
        path = self.root / "compact" / f"{hashlib.sha256(content).hexdigest()}.parquet"
        try:
            with self.guard():
                self.write_new(path, content)
        except RequestError as error:
            log.info("records stay without a compact copy: %s", error)  # it only saves time
            return None
        return path

    def _merge(self, parts: Mapping[Path, pd.DataFrame]) -> None:
        merged = self._keep(_stacked(list(parts.values())).drop_duplicates([_KEY, _SIZE, _TIME]))
        for path in parts if merged else ():
            if path != merged:
                drop_tree(path)

    def _load(self, path: Path) -> Iterator[pd.DataFrame]:
        try:
            content = read_bytes(path)
            if hashlib.sha256(content).hexdigest() != path.stem:
                raise Damaged("its content does not match its name")
        except FileNotFoundError:
            return  # another process has just merged it
        except Damaged as error:
            self.set_aside(path, error, still_bad=lambda moved: True)
        else:
            yield _from_parquet(content)


def _frame(lists: Mapping[str, list[Any]]) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.DataFrame(lists)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold and a table cannot
        return pd.DataFrame({_whole(name): [_whole(value) for value in values] for name, values in lists.items()})


def _whole(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    full = [frame for frame in frames if len(frame)]
    if not full:
        return pd.DataFrame(columns=[_KEY, _SIZE, _TIME])
    table = pd.concat(full, ignore_index=True)
    # A column's type should depend on all of its values, not on how they were spread over the frames.
    mixed = [name for name in table.columns if table[name].dtype == object]
    return table.assign(**{name: pd.Series(table[name].where(table[name].notna(), None).tolist()) for name in mixed})


def _to_parquet(frame: pd.DataFrame) -> bytes:
    """Return a parquet file; columns of mixed types, which parquet does not have, become JSON texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    mixed = [name for name in frame.columns if frame[name].dtype == object]
    texts = {name: [json.dumps(value) for value in frame[name]] for name in mixed}
    table = pa.Table.from_pandas(frame.assign(**texts), preserve_index=False)
    about = {**(table.schema.metadata or {}), b"mixed": json.dumps(mixed).encode()}
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(about), stream, compression="zstd")
    return stream.getvalue()


def _from_parquet(content: bytes) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(content))
    frame: pd.DataFrame = table.to_pandas()
    for name in json.loads(table.schema.metadata[b"mixed"]):
        values = {text: json.loads(text) for text in frame[name].unique()}
        frame[name] = frame[name].map(values).astype(object)
    return frame
