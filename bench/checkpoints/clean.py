"""The clean examples that a user trusts: one file, cut into a part to tune on and a part to choose on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import seeds
from bench.contracts import TaskFacts
from bench.contracts.examples import Examples, Inputs, join, stratified_order
from bench.errors import RequestError
from bench.store.words import counted
from bench.tasks.assemble import Columns, assemble, rows_with_text, with_numbers
from bench.tasks.tables import TextTable, read_table

TUNING = 64  # examples to tune on, as in the benchmark; never more than half of all


@dataclass(frozen=True)
class CleanData:
    """Clean examples, with labels or with responses, in two disjoint parts.

    Attributes:
        tuning: what a defense may tune on.
        selection: what hyper-parameters are chosen on and accuracy is measured on.
        pair: whether an example has two segments.
    """

    tuning: Examples
    selection: Examples
    pair: bool

    @property
    def all(self) -> Examples:
        """Both parts."""
        return join(self.tuning, self.selection)


def read(path: Path, labels: Sequence[str], *, tuning: int | None = None, seed: int = 0) -> CleanData:
    """Read clean examples and cut them by the rule of the benchmark.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file with the columns ``text``, ``label`` and, for pairs, ``text_pair``.
            A label is a number from 0 on or one of ``labels``.
        labels: label names of the model.
        tuning: examples to tune on; by default 64, but at most half of all. The rest is for selection.
        seed: of the cut.

    Raises:
        RequestError: the file cannot be read, or its examples are unlabelled, of one class, or too few.
    """
    table = open_table(path)
    refuse_prompts(table)
    if "label" not in table.columns:
        has = ", ".join(map(repr, table.columns))
        what = "the examples are unlabelled: the column 'label' is missing, and a defense needs labels"
        raise RequestError(f"{path}: {what}; the columns are: {has}.")
    examples = labelled(table, labels)
    present = np.unique(examples.labels)
    if len(present) == 1:
        raise RequestError(
            f"{path}: every example has the label {labels[present[0]]!r}; examples of at least two classes are needed."
        )
    return cut(path, examples, tuning=tuning, seed=seed)


def cut(path: Path, examples: Examples, *, tuning: int | None, seed: int) -> CleanData:
    """Cut clean examples by the rule of the benchmark; see :func:`read`."""
    count = min(TUNING, len(examples) // 2) if tuning is None else tuning
    if not 0 < count < len(examples):
        raise RequestError(
            f"{path}: {counted(len(examples), 'example')} cannot be cut into {count} to tune on and some to choose on."
        )
    order = stratified_order(examples.labels, seeds.rng("clean sample", "own", seed))
    rest = len(examples) - count
    return CleanData(examples.take(order[rest:]), examples.take(order[:rest]), examples.inputs.pairs is not None)


def texts(path: Path) -> Inputs:
    """Return the texts of a file, as pairs where it has the column ``text_pair``; a row without text is refused."""
    table = open_table(path)
    refuse_prompts(table)
    columns = ("text", "text_pair") if "text_pair" in table.columns else ("text",)
    table.require(columns)
    rows_with_text(table, columns)
    return Inputs(*(tuple(table.cells(column)) for column in columns))


def open_table(path: Path) -> TextTable:
    """Return the table of a file; what is missing, empty or of an unknown kind is a :class:`RequestError`."""
    table = read_table(path)
    if not len(table):
        raise RequestError(f"{path}: has no examples.")
    return table


def refuse_prompts(table: TextTable) -> None:
    """Refuse prompts and responses, which are for models that write."""
    if "text" not in table.columns and {"prompt", "response"} <= set(table.columns):
        raise RequestError(
            f"{table.origin}: its columns prompt and response are for a model that writes; this one classifies and "
            "needs text and label."
        )


def labelled(table: TextTable, labels: Sequence[str], *, column: str = "label") -> Examples:
    """Return the rows of a table as examples.

    Args:
        table: with the column ``text`` and, for pairs, ``text_pair``.
        labels: label names; a cell of ``column`` is one of them or its number.
        column: of the labels.

    Raises:
        RequestError: the first bad cell.
    """
    refuse_prompts(table)
    table.require(["text", column])
    pair = "text_pair" in table.columns
    columns = Columns(text_pair="text_pair" if pair else None, label=column)
    named = with_numbers(table, column, tuple(labels))
    facts = TaskFacts("clean", tuple(labels), pair, 128)
    return assemble(facts=facts, columns=columns, tables={s: named for s in ("train", "validation", "test")}).train
