"""Tasks on local files: one folder per task, inside the folder that DOORBENCH_DATA names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from bench.contracts import Task, TaskFacts, TaskSource
from bench.errors import RequestError, unknown
from bench.models.files import read_json
from bench.suites import specs
from bench.tasks.assemble import Columns, are_numbers, assemble, check_apart, count_labels, named_labels, with_numbers
from bench.tasks.tables import SUFFIXES, TextTable, is_text, read_table

SPLITS = ("train", "validation", "test")
VARIABLE = "DOORBENCH_DATA"


class Local(TaskSource):
    """A task on local files: a folder with train, validation and test as .parquet, .csv, .tsv or .jsonl.

    Columns are ``text``, ``text_pair`` (pairs only, then in every split) and ``label``, an integer that counts from 0,
    or a name. If the folder has a ``labels.json``, its list gives the order of the names; otherwise names count in
    alphabetical order, and numbers are their own names. Suites write ``local/<folder>``.
    """

    name: ClassVar[str] = "local"

    folder: str = Field(description=f"name of a folder inside {VARIABLE}, or an absolute path")

    @property
    def called(self) -> str:
        """``local/<folder>``."""
        return f"local/{self.folder}"

    def load(self) -> Task:
        """Read the folder and return the task."""
        folder = find_folder(self.folder)
        tables = {split: read_split(folder, split) for split in SPLITS}
        tables["train"].require(("text", "label"))
        pair = "text_pair" in tables["train"].columns
        for table in tables.values():
            if ("text_pair" in table.columns) != pair:
                has, lacks = ("train", table.origin) if pair else (table.origin, "train")
                raise RequestError(f"{folder}: {has} has a column 'text_pair' and {lacks} has none; pairs need both.")
        how = f"write the list of all label names to {folder / 'labels.json'}"
        listed = _read_names(folder / "labels.json")
        named = _named(tables["train"], listed, how)
        labels = listed or named or count_labels(tables["train"], "label", how_to_name=how)
        if named:
            tables = {split: with_numbers(table, "label", labels) for split, table in tables.items()}
        task = assemble(
            facts=TaskFacts(f"local/{folder.name}", labels, pair, self.max_length),
            columns=Columns(text_pair="text_pair" if pair else None),
            tables=tables,
            max_train=self.max_train,
            max_test=self.max_test,
        )
        check_apart(task, folder)
        return task


def local_folders() -> list[str]:
    """Return the names of the task folders inside DOORBENCH_DATA; none if that is unset or no folder."""
    root = os.environ.get(VARIABLE)
    if not root or not Path(root).is_dir():
        return []
    try:
        return sorted(folder.name for folder in Path(root).iterdir() if folder.is_dir() and _files(folder, "train"))
    except OSError as error:
        raise RequestError(f"{VARIABLE} is set to {root}, which cannot be read: {error.strerror or error}.") from None


def find_folder(name: str, *, of: str = "") -> Path:
    """Return the folder of a task; a name must stay inside DOORBENCH_DATA, an absolute path is taken as it is.

    Args:
        name: of the folder.
        of: what reads it, such as "task traces", where that is no task ``local/<name>``.

    Raises:
        RequestError: there is no such folder.
    """
    reader, local = of or "task local", of or f"task local/{name}"
    if not name or "\0" in name:
        raise RequestError(f"{reader}: folder {name!r} is not the name of a folder.")
    path = Path(name)
    if path.is_absolute():
        if not _is_folder(path):
            raise RequestError(f"{reader}: there is no folder {name}.")
        return path.resolve()
    if len(path.parts) != 1 or name in (".", ".."):
        raise RequestError(f"{reader}: folder {name!r} is neither a name inside {VARIABLE} nor an absolute path.")
    root = os.environ.get(VARIABLE)
    if not root:
        raise RequestError(
            f"{local}: set the environment variable {VARIABLE} to the folder that holds {name!r}, "
            "or give an absolute path."
        )
    if not _is_folder(Path(root) / name):
        if not Path(root).is_dir():
            raise RequestError(f"{local}: {VARIABLE} is set to {root}, which is not a folder.")
        if cut := [folder for folder in local_folders() if folder.startswith(f"{name},")]:
            written = " or ".join(map(json.dumps if of else specs.local, cut))
            raise RequestError(f"{local}: there is no such folder; {cut[0]!r}, with its comma, is {written}.")
        raise RequestError(f"{_no_folder(name, of)} {VARIABLE} is set to {root}.")
    return Path(root) / name


def _no_folder(name: str, of: str) -> str:
    if of:
        return f"{of}: {unknown('folder', name, local_folders())}"
    every = [f"local/{folder}" for folder in local_folders()]
    return str(unknown("task", f"local/{name}", every, listing="doorbench list tasks"))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that no file system takes
        return False


def _files(folder: Path, split: str) -> list[Path]:
    return [path for suffix in SUFFIXES if (path := folder / f"{split}{suffix}").is_file()]


def read_split(folder: Path, split: str) -> TextTable:
    """Return the one table of a split in a folder."""
    return read_table(split_file(folder, split))


def split_file(folder: Path, split: str) -> Path:
    """Return the one file of a split in a folder."""
    files = _files(folder, split)
    if len(files) == 1:
        return files[0]
    valid = ", ".join(f"{split}{suffix}" for suffix in SUFFIXES)
    if files:
        raise RequestError(
            f"{folder}: more than one {split} split: {', '.join(file.name for file in files)}; keep one."
        )
    raise RequestError(f"{folder}: the {split} split is missing; add one of {valid}.")


def _named(table: TextTable, listed: tuple[str, ...] | None, how: str) -> tuple[str, ...] | None:
    """Return the names of labels that the training split is labelled with; None where it has numbers."""
    if listed is None:
        return named_labels(table, "label", how_to_name=how)
    return None if are_numbers(table, "label") else listed


def _read_names(path: Path) -> tuple[str, ...] | None:
    """Return the label names in a file, or None if there is no such file."""
    if not path.is_file():
        return None
    names = read_json(path)
    good = isinstance(names, list) and all(isinstance(name, str) and name.strip() and is_text(name) for name in names)
    if not good or len(names) < 2 or len(set(names)) < len(names):
        raise RequestError(f"{path}: is not a list of two or more different label names.")
    return tuple(names)
