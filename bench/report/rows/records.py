"""Rows from records alone: what results/ holds, and what others submit, is read without data, models or a store.

A failed attempt does not say in words which cell it belongs to, so only a suite that is opened with its store shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.errors import RequestError, plain
from bench.experiment import record_files
from bench.experiment.other_library_versions import apart_from_libraries
from bench.experiment.record import Record
from bench.report.rows import build
from bench.report.rows.row import Row
from bench.report.rows.trainings import merge_victim_keys
from bench.store.layout import walk
from bench.suites.suite import Gate, gate, read_yaml

LINES = ("records.jsonl", "records.jsonl.gz")
FOLDER = "records"


def folders_of(folder: Path) -> list[Path]:
    """Return the topmost folders at or below ``folder`` that hold the records of a suite.

    Raises:
        RequestError: there is none.
    """
    if not folder.is_dir():
        raise RequestError(f"there is no folder {folder}.")
    folders = list(_within(folder))
    if not folders:
        valid = " or ".join(("records/*.json", *LINES))
        raise RequestError(f"no records in {folder} or its folders; a suite's folder holds {valid}.")
    return folders


def _within(folder: Path) -> Iterator[Path]:
    if _holds_records(folder):
        yield folder
        return
    for inner in sorted(one for one in folder.iterdir() if one.is_dir() and not one.is_symlink()):
        yield from _within(inner)


def _holds_records(folder: Path) -> bool:
    if line_files(folder):
        return True
    inside = folder / FOLDER
    return inside.is_dir() and any(name.endswith(".json") for _, _, names in walk(inside) for name in names)


def line_files(folder: Path) -> list[Path]:
    """Return the files in a folder that hold a record in each line."""
    return [path for name in LINES if (path := folder / name).is_file()]


def gate_of(folder: Path) -> Gate:
    """Return the gate of ``suite.yaml`` in a folder of records, or the default gate.

    Nothing else of the suite is read: a folder of an earlier version may have other fields.
    """
    path = folder / "suite.yaml"
    return gate(read_yaml(path), str(path)) if path.is_file() else Gate()


def load(folder: Path) -> list[Row]:
    """Return a row for each record in a folder.

    Raises:
        RequestError: a file is no record, or not what was written; says which, and in what field. Or there is none.
    """
    by_key: dict[str, tuple[Record, Path]] = {}
    for one in record_files.read([*line_files(folder), *record_files.files_below(folder / FOLDER, ["*.json"])]):
        if isinstance(one, record_files.Problem):
            raise RequestError(f"{one}.")
        by_key[one.record.key] = one.record, one.path
    if not by_key:
        raise RequestError(f"{folder} holds no records: its files are empty.")
    return rows_of(by_key.values(), suite=name_of(folder))


def name_of(folder: Path) -> str:
    """Return what a folder calls its suite: its last name, in characters that every file can hold."""
    return plain(folder.resolve().name)


def rows_of(records: Iterable[tuple[Record, Path | None]], *, suite: str) -> list[Row]:
    """Return a row for each record, given with its file, as the rows of a suite of that name."""
    rows = []
    victims: dict[str, str] = {}  # key of a victim -> what names it apart from the versions of libraries
    for record, path in records:
        if record.victim_key not in victims:
            victims[record.victim_key] = apart_from_libraries(record.recipe.victim.document())
        rows.append((build.of_record(record, suite=suite, path=path), victims[record.victim_key]))
    return merge_victim_keys(rows)
