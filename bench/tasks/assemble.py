"""Turns tables into a task. Only here are labels and texts checked and splits cut to size."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import seeds
from bench.contracts import Task, TaskFacts
from bench.contracts.examples import Examples, Inputs, IntArray, stratified_order
from bench.errors import RequestError
from bench.keys import key_of
from bench.tasks.tables import TextTable, is_text, shown

log = logging.getLogger(__name__)
REPEATED = 0.5  # share of a split in an earlier one from which on it repeats that one
MOST_NAMES = 100  # of labels that a file may name without a list of them
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class Columns:
    """The columns of a table: the first segment, the second one (None for single sentences) and the label."""

    text: str = "text"
    text_pair: str | None = None
    label: str = "label"

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that hold text."""
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)


def assemble(
    *,
    facts: TaskFacts,
    columns: Columns,
    tables: Mapping[str, TextTable],
    max_train: int | None = None,
    max_test: int | None = None,
    validation_size: int | None = None,
    drop_empty: bool = False,
) -> Task:
    """Check three tables and return them as a task.

    Rows that are kept stay in the order of their table. A cut to size is stratified by label and depends on the names
    of task and split only; smaller cuts are parts of larger ones.

    Args:
        facts: of the task; its label names bound the labels.
        columns: the names of the tables' columns.
        tables: the splits ``train`` and ``test``, and ``validation`` unless ``validation_size`` is given.
        max_train: training examples kept; all by default.
        max_test: test examples kept; all by default.
        validation_size: make the validation split of so many training examples, stratified.
        drop_empty: leave out rows with an empty text instead of refusing them.

    Raises:
        RequestError: the first bad cell, with its table, row and column.
    """
    splits = {split: _checked(table, split, columns, facts, drop_empty) for split, table in tables.items()}
    if validation_size is not None:
        splits["train"], splits["validation"] = splits["train"].parted(validation_size, facts.name)
    sizes = {"train": max_train, "validation": None, "test": max_test}
    parts = {split: splits[split].cut(size, facts.name, split).examples(columns) for split, size in sizes.items()}
    fingerprints = {split: examples.fingerprint() for split, examples in parts.items()}
    return Task(facts, **parts, fingerprint=key_of({"facts": dataclasses.asdict(facts), **fingerprints}))


def check_apart(task: Task, folder: Path) -> None:
    """Refuse splits that repeat each other, and warn of texts that are in two of them.

    Raises:
        RequestError: half of a split or more stands in an earlier one, so that it would measure memory.
    """
    examples = {"train": task.train, "validation": task.validation, "test": task.test}
    for later, earlier in (("validation", "train"), ("test", "train"), ("test", "validation")):
        known = set(_rows(examples[earlier]))
        rows = _rows(examples[later])
        count = sum(row in known for row in rows)
        overlap = f"{folder}: {count:,} of the {len(rows):,} texts of {later} are also in {earlier}"
        if count >= REPEATED * len(rows):
            raise RequestError(f"{overlap}; a split must not repeat another.")
        if count:
            log.warning("%s; what they measure is partly memory", overlap)


def _rows(examples: Examples) -> list[tuple[str, ...]]:
    inputs = examples.inputs
    return list(zip(inputs.texts, *([] if inputs.pairs is None else [inputs.pairs]), strict=True))


@dataclass(frozen=True)
class _Split:
    """The rows of a table that belong to a split, in the order of the table, and their labels."""

    table: TextTable
    rows: IntArray
    labels: IntArray

    def take(self, part: IntArray) -> _Split:
        part = np.sort(part)
        return _Split(self.table, self.rows[part], self.labels[part])

    def cut(self, size: int | None, task: str, split: str) -> _Split:
        if size is None or size >= len(self.rows):
            return self
        return self.take(stratified_order(self.labels, seeds.rng("task cut", task, split))[:size])

    def parted(self, size: int, task: str) -> tuple[_Split, _Split]:
        if size >= len(self.rows):
            reason = f"{len(self.rows)} training examples are not enough for validation_size={size}"
            raise RequestError(f"{self.table.origin}: {reason}.")
        order = stratified_order(self.labels, seeds.rng("task validation", task))
        return self.take(order[size:]), self.take(order[:size])

    def examples(self, columns: Columns) -> Examples:
        texts, *pairs = (tuple(self.table.cells(column, self.rows)) for column in columns.texts)
        return Examples(Inputs(texts, pairs[0] if pairs else None), self.labels)


def _checked(table: TextTable, split: str, columns: Columns, facts: TaskFacts, drop_empty: bool) -> _Split:
    table.require((*columns.texts, columns.label))
    rows = rows_with_text(table, columns.texts, drop_empty=drop_empty)
    if not len(rows):
        raise RequestError(f"{table.origin}: the {split} split is empty.")
    if len(rows) < len(table):
        log.warning("%s: %d rows with an empty text are left out", table.origin, len(table) - len(rows))
    return _Split(table, rows, read_labels(table, columns.label, facts.labels)[rows])


def read_labels(table: TextTable, column: str, names: tuple[str, ...] | None, *, by_name: bool = False) -> IntArray:
    """Return the labels of a table, int64 [n].

    Args:
        table: a split.
        column: the column of the labels.
        names: label names that bound the labels; None to accept any label from 0 on.
        by_name: whether a cell may hold the name of a label instead of its number.
    """
    table.require([column])
    labels = np.empty(len(table), dtype=np.int64)
    cells = _numbered(table, column, names) if by_name and names else table.cells(column)
    for row, value in enumerate(cells, 1):
        if value is None or value == "":
            raise table.bad(row, column, "the label is missing")
        if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
            value = int(value)
        if type(value) is not int:
            valid = f"; valid: {_choices(names)}" if names else ""
            named = "neither the number nor the name of a label" if by_name else "not an integer"
            raise table.bad(row, column, f"the label {shown(value)} is {named}{valid}")
        if value < 0 or value >= (2**31 if names is None else len(names)):
            valid = "an integer from 0 on" if names is None else _choices(names)
            raise table.bad(row, column, f"the label {shown(value)} is out of range; valid: {valid}")
        labels[row - 1] = value
    return labels


def _numbered(table: TextTable, column: str, names: tuple[str, ...]) -> list[Any]:
    """Return the cells of a column with numbers instead of the names of labels.

    Where names are numbers themselves, such as those of stars from 1 to 5, a cell could mean two labels. Then either
    all cells are numbers or all are names, and only one of both must be possible.
    """
    known = {name.strip(): number for number, name in enumerate(names) if names.count(name) == 1}
    cells = [cell.strip() if isinstance(cell, str) else cell for cell in table.cells(column)]
    read = [_readings(cell, known, len(names)) for cell in cells]
    unclear = [row for row, (number, named) in enumerate(read) if number != named and None not in (number, named)]
    if not unclear:
        return [
            cell if number is None and named is None else number if named is None else named
            for cell, (number, named) in zip(cells, read, strict=True)
        ]
    numbers, by_name = ([labels[way] for labels in read] for way in (0, 1))
    if (None in numbers) == (None in by_name):
        number, named = read[unclear[0]]
        meanings = f"{shown(cells[unclear[0]])} is the number of the label {names[number or 0]!r}"
        meanings += f" and the name of the label number {named}; other cells do not tell which is meant"
        raise table.bad(unclear[0] + 1, column, f"{meanings}; rename the labels")
    return by_name if None in numbers else numbers


def _readings(cell: Any, known: Mapping[str, int], count: int) -> tuple[int | None, int | None]:
    """Return the label that a cell means as a number, and the one that it means as a name."""
    text = str(cell) if type(cell) is int else cell if isinstance(cell, str) else ""
    number = int(text) if _INTEGER.fullmatch(text) else -1
    return number if 0 <= number < count else None, known.get(text)


def with_numbers(table: TextTable, column: str, names: tuple[str, ...]) -> TextTable:
    """Return a table with the number of each label, whether its cell holds the number or the name."""
    return TextTable(table.origin, {**table.columns, column: read_labels(table, column, names, by_name=True).tolist()})


def named_labels(table: TextTable, column: str, *, how_to_name: str) -> tuple[str, ...] | None:
    """Return the names that stand in a column of labels, in alphabetical order; None where numbers stand there.

    Raises:
        RequestError: a name is missing or not UTF-8, or there are more names than a task has labels.
    """
    if not len(table) or are_numbers(table, column):
        return None
    cells = [(cell or "").strip() for cell in table.cells(column)]
    for row, cell in enumerate(cells, 1):
        if not cell or not is_text(cell):
            raise table.bad(row, column, "the label is not UTF-8" if cell else "the label is missing")
    names = sorted(set(cells))
    if not 2 <= len(names) <= MOST_NAMES:
        count = f"{len(names):,} different labels, and a task has 2 to {MOST_NAMES}"
        raise RequestError(f"{table.origin}, column {column!r}: {count}; {how_to_name} if that is what you mean.")
    return tuple(names)


def are_numbers(table: TextTable, column: str) -> bool:
    """Whether the labels of a table are meant as numbers: any of them is one, or no text."""
    table.require([column])
    return any(not isinstance(cell, str) or _is_number(cell) for cell in table.cells(column) if cell is not None)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def count_labels(table: TextTable, column: str, *, how_to_name: str) -> tuple[str, ...]:
    """Return names ``("0", "1", ...)`` for the labels of a training table, which must count from 0 without a gap."""
    labels = np.unique(read_labels(table, column, None))
    gaps = np.flatnonzero(labels != np.arange(len(labels)))
    if len(labels) and len(gaps):
        gap = f"no example has label {gaps[0]}, but there is label {labels[-1]}"
        raise RequestError(f"{table.origin}, column {column!r}: {gap}; count labels from 0, or {how_to_name}.")
    if len(labels) == 1:
        raise RequestError(f"{table.origin}, column {column!r}: every label is 0; a task needs two labels.")
    return tuple(str(label) for label in labels)


def rows_with_text(table: TextTable, columns: Sequence[str], *, drop_empty: bool = False) -> IntArray:
    """Return the rows in which no text is missing; a missing text is an error unless ``drop_empty``."""
    keep = np.ones(len(table), dtype=bool)
    for column in columns:
        for row, text in table.texts(column):
            if text is not None and text.strip():
                continue
            if not drop_empty:
                raise table.bad(row, column, "the text is missing" if text is None else "the text is empty")
            keep[row - 1] = False
    return np.flatnonzero(keep)


def _choices(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"{i} ({name})" if name != str(i) else name for i, name in enumerate(names[:12]))
    return shown + (", ..." if len(names) > 12 else "")
