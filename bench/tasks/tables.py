"""Tables of text and labels, as files or the Hub have them. Every place that takes texts from a user reads them here.

A cell means the same in every format: a text, a label or nothing. What could mean two things is refused with its row.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from bench.contracts.examples import IntArray
from bench.errors import RequestError
from bench.models.files import error_line

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl")
LONGEST_TEXT = 2**31 - 1  # characters of a field of a .csv file; the limit of Python's reader is 131,072


def _plain(cells: Any) -> Iterator[Any]:
    """Yield cells as Python values. Bytes that are not UTF-8 become lone surrogates, which the reader then refuses."""
    for chunk in cells.chunks if hasattr(cells, "chunks") else [cells]:
        if not hasattr(chunk, "to_pylist"):
            yield from chunk
        elif str(chunk.type) in ("string", "large_string"):
            raw = chunk.cast("large_binary").to_pylist()
            yield from (None if cell is None else cell.decode("utf-8", "surrogateescape") for cell in raw)
        else:
            yield from chunk.to_pylist()


def _simple(column: Any) -> Any:
    """Return an arrow column without the encodings that arrow cannot take rows of."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_run_end_encoded(column.type):
        chunks = [pc.run_end_decode(chunk) for chunk in column.chunks]
        column = pa.chunked_array(chunks, type=column.type.value_type)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast("large_string") if pa.types.is_string_view(column.type) else column


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
        """Yield the cells of a column as Python values: all of them, or those of the given rows in that order.

        Raises:
            RequestError: the column is of a type of arrow whose values Python does not have.
        """
        cells = self.columns[column]
        if not hasattr(cells, "to_pylist"):
            yield from cells if rows is None else (cells[row] for row in rows)
            return
        try:
            cells = _simple(cells)
            yield from _plain(cells if rows is None else cells.take(rows))
        except (NotImplementedError, ValueError, OverflowError, TypeError) as error:  # arrow's own are among them
            raise RequestError(
                f"{self.origin}, column {column!r}: values of the type {cells.type} cannot be read: "
                f"{error_line(error)}; write text as strings and labels as integers."
            ) from None

    def texts(self, column: str) -> Iterator[tuple[int, str | None]]:
        """Yield the number of every row, from 1, and its text; None where the cell is null.

        Raises:
            RequestError: a cell is not text, or not UTF-8.
        """
        for row, cell in enumerate(self.cells(column), 1):
            if cell is not None and not isinstance(cell, str):
                raise self.bad(row, column, f"{shown(cell)} is not text")
            if cell is not None and not is_text(cell):
                raise self.bad(row, column, "the text is not UTF-8")
            yield row, cell

    def require(self, names: Iterable[str]) -> None:
        """Refuse a table that lacks one of the columns."""
        for name in names:
            if name not in self.columns:
                has = ", ".join(map(repr, self.columns)) or "none"
                raise RequestError(f"{self.origin}: column {name!r} is missing; the columns are: {has}.")

    def bad(self, row: int, column: str, what: str) -> RequestError:
        """Return the error for one cell; ``row`` counts data rows from 1."""
        return RequestError(f"{self.origin}, row {row}, column {column!r}: {what}.")


_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}


def read_table(path: Path) -> TextTable:
    """Read one file by its suffix, one of ``SUFFIXES``.

    Raises:
        RequestError: there is no such file, it has another suffix, or it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise RequestError(f"{path}: cannot tell its format; valid endings: {', '.join(SUFFIXES)}.")
    try:
        if not path.is_file():
            raise RequestError(f"there is no file {path}.")
        read = {".parquet": _read_parquet, ".jsonl": _read_jsonl, ".csv": _read_csv, ".tsv": _read_tsv}[suffix]
        columns = read(path)
    except (OSError, ValueError) as error:  # ValueError: a name that no file system takes
        raise RequestError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    return TextTable(str(path), columns)


def _read_parquet(path: Path) -> Mapping[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: is not a readable parquet file: {error_line(error)}.") from None
    _refuse_twice(path, table.column_names)
    return dict(zip(table.column_names, table.columns, strict=True))


def _refuse_twice(path: Path, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RequestError(f"{path}, header: column {twice!r} appears twice.")


def _read_csv(path: Path) -> Mapping[str, Sequence[str]]:
    with _opened(path) as file:
        return _columns(path, _quoted(path, file, ","), ",")


def _read_tsv(path: Path) -> Mapping[str, Sequence[str]]:
    """Read tabs between fields: with quotes around fields, as pandas writes, or without any, as GLUE has it.

    Where quotes are read as such, tabs and lines inside them belong to a text. If the lines of the file are whole rows
    as they stand, these quotes were only characters.
    """
    with _opened(path) as file:
        lines = [line.rstrip("\r\n").split("\t") for line in file if line.strip("\r\n")]
    whole = len({len(line) for line in lines}) <= 1
    try:
        with _opened(path) as file:
            quoted = _quoted(path, file, "\t")
    except RequestError:
        if not whole:
            raise
        return _columns(path, lines, "\t")
    merged = any("\t" in cell or "\n" in cell for row in quoted for cell in row)
    return _columns(path, lines if whole and merged else quoted, "\t")


def _opened(path: Path, newline: str = "") -> TextIO:
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise RequestError(f"{path}: is UTF-16, as its first two bytes say; save it as UTF-8.")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _quoted(path: Path, file: TextIO, delimiter: str) -> list[list[str]]:
    rows: list[list[str]] = []
    before = csv.field_size_limit(LONGEST_TEXT)
    try:
        rows.extend(row for row in csv.reader(file, delimiter=delimiter, strict=True) if row)
    except csv.Error as error:
        why = f"{error}; a text with quotes, line breaks or {delimiter!r} is safest in a .jsonl or .parquet file"
        raise RequestError(f"{path}, row {max(len(rows), 1)}: cannot be parsed: {why}.") from None
    finally:
        csv.field_size_limit(before)
    return rows


def _columns(path: Path, rows: Sequence[Sequence[str]], delimiter: str) -> Mapping[str, Sequence[str]]:
    header, data = (rows[0], rows[1:]) if rows else ((), ())
    if len(header) == 1 and (others := [one for one in _DELIMITERS if one != delimiter and one in header[0]]):
        ending, wanted, used = path.suffix.lower(), _DELIMITERS[delimiter], _DELIMITERS[others[0]]
        raise RequestError(
            f"{path}, header: {header[0]!r} is one column; fields of a {ending} have {wanted} between them, not {used}."
        )
    for name in header:
        if not is_text(name):
            raise RequestError(f"{path}, header, column {name!r}: is not UTF-8.")
    _refuse_twice(path, header)
    for number, row in enumerate(data, 1):
        if len(row) != len(header):
            column = header[min(len(row), len(header) - 1)]
            fields = f"{len(row)} field{'s' * (len(row) != 1)} where the header has {len(header)}"
            raise RequestError(f"{path}, row {number}, column {column!r}: {fields}.")
    return dict(zip(header, map(list, zip(*data, strict=True)) if data else [[] for _ in header], strict=True))


def _read_jsonl(path: Path) -> Mapping[str, Sequence[Any]]:
    records: list[dict[str, Any]] = []
    with _opened(path, newline="\n") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                record = json.loads(line, object_pairs_hook=_once)
            except (ValueError, RecursionError) as error:
                where = f"{path}, row {len(records) + 1}"
                raise RequestError(f"{where}: is not JSON{'' if is_text(line) else ' in UTF-8'}: {error}.") from None
            if not isinstance(record, dict):
                raise RequestError(f"{path}, row {len(records) + 1}: is not a JSON object with the columns as keys.")
            records.append(record)
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of some pairs, in which no name is there twice."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} appears twice in it")
    return dict(pairs)


def shown(value: object) -> str:
    """Return a cell for an error message."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8, which it cannot where its bytes were not."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
