"""Tables of text and labels, as files or the Hub have them, before anything is checked."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contracts.examples import IntArray
from bench.errors import RequestError

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl")


def _plain(cells: Any) -> Iterator[Any]:
    """Yield cells as Python values. Bytes that are not UTF-8 become lone surrogates, which the reader then refuses."""
    for chunk in cells.chunks if hasattr(cells, "chunks") else [cells]:
        if not hasattr(chunk, "to_pylist"):
            yield from chunk
            continue
        kind = str(chunk.type)
        if kind.startswith("dictionary"):
            chunk = chunk.dictionary_decode()
            kind = str(chunk.type)
        if kind in ("string", "large_string"):
            raw = chunk.cast("large_binary").to_pylist()
            yield from (None if cell is None else cell.decode("utf-8", "surrogateescape") for cell in raw)
        else:
            yield from chunk.to_pylist()


@dataclass(frozen=True)
class TextTable:
    """One split as columns.

    Attributes:
        origin: the file, or the name on the Hub, for error messages.
        columns: cells of each column, all of the same length: a list, or a pyarrow array.
    """

    origin: str
    columns: Mapping[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def cells(self, column: str, rows: IntArray | None = None) -> Iterator[Any]:
        """Yield the cells of a column as Python values: all of them, or those of the given rows in that order."""
        cells = self.columns[column]
        if rows is None:
            return _plain(cells)
        return _plain(cells.take(rows) if hasattr(cells, "take") else [cells[row] for row in rows])

    def require(self, names: Iterable[str]) -> None:
        """Refuse a table that lacks one of the columns."""
        for name in names:
            if name not in self.columns:
                has = ", ".join(map(repr, self.columns)) or "none"
                raise RequestError(f"{self.origin}: column {name!r} is missing; the columns are: {has}.")

    def bad(self, row: int, column: str, what: str) -> RequestError:
        """Return the error for one cell; ``row`` counts data rows from 1."""
        return RequestError(f"{self.origin}, row {row}, column {column!r}: {what}.")


def read_table(path: Path) -> TextTable:
    """Read one file by its suffix (one of ``SUFFIXES``); what cannot be read is a :class:`RequestError`."""
    try:
        match path.suffix:
            case ".parquet":
                columns = _read_parquet(path)
            case ".jsonl":
                columns = _read_jsonl(path)
            case _:
                columns = _read_delimited(path, "\t" if path.suffix == ".tsv" else ",")
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}.") from None
    return TextTable(str(path), columns)


def _read_parquet(path: Path) -> Mapping[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except pa.ArrowException as error:
        raise RequestError(f"{path}: is not a readable parquet file: {short_error(error)}.") from None
    return dict(zip(table.column_names, table.columns, strict=True))


def _read_delimited(path: Path, delimiter: str) -> Mapping[str, Sequence[str]]:
    rows: list[list[str]] = []
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            rows.extend(row for row in reader if row)
        except csv.Error as error:
            raise RequestError(f"{path}, row {max(len(rows), 1)}: cannot be parsed: {error}.") from None
    header, data = (rows[0], rows[1:]) if rows else ([], [])
    for name in header:
        if not is_text(name):
            raise RequestError(f"{path}, header, column {name!r}: is not UTF-8.")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise RequestError(f"{path}, header: column {twice!r} appears twice.")
    for number, row in enumerate(data, 1):
        if len(row) != len(header):
            column = header[min(len(row), len(header) - 1)]
            fields = f"{len(row)} fields where the header has {len(header)}"
            raise RequestError(f"{path}, row {number}, column {column!r}: {fields}.")
    return dict(zip(header, map(list, zip(*data, strict=True)) if data else [[] for _ in header], strict=True))


def _read_jsonl(path: Path) -> Mapping[str, Sequence[Any]]:
    records: list[dict[str, Any]] = []
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                where = f"{path}, row {len(records) + 1}"
                raise RequestError(f"{where}: is not JSON{'' if is_text(line) else ' in UTF-8'}: {error}.") from None
            if not isinstance(record, dict):
                raise RequestError(f"{path}, row {len(records) + 1}: is not a JSON object with the columns as keys.")
            records.append(record)
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8, which it cannot where its bytes were not."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def short_error(error: Exception) -> str:
    """Return the kind and the first line of another library's error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {(lines or ['no details'])[0][:300]}".rstrip(".")
