"""Execution accuracy: a query is right if it returns what the right one returns.

Queries are written by models, so they run on a copy in memory that cannot be written to, that cannot reach files, and
that stops them at a limit of rows, steps and time. Whatever a query does beside reading is a wrong answer.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.errors import RequestError

ROWS, STEPS, SECONDS = 1000, 5_000_000, 2.0
EVERY = 1000  # steps of SQLite's virtual machine between two looks at the limits
LARGEST = 100_000  # bytes of a query, and of a value that it computes
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: LARGEST,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: LARGEST,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
}
# What questions ask for. Others can write gigabytes in one step, read files or load code.
_TEXT = ("glob", "instr", "length", "like", "lower", "ltrim", "rtrim", "substr", "substring", "trim", "upper")
_NUMBERS = ("abs", "avg", "count", "group_concat", "max", "min", "round", "sum", "total")
_OTHER = ("coalesce", "date", "datetime", "ifnull", "iif", "julianday", "nullif", "strftime", "time")
_FUNCTIONS = frozenset((*_TEXT, *_NUMBERS, *_OTHER))
Rows = list[tuple[object, ...]]


class Execution:
    """Runs queries on a database.

    Args:
        fill: writes the database into an empty connection.
    """

    name = "execution accuracy"

    def __init__(self, fill: Callable[[sqlite3.Connection], object]) -> None:
        self._fill = fill

    @cached_property
    def _database(self) -> sqlite3.Connection:
        copy = sqlite3.connect(":memory:", isolation_level=None)
        self._fill(copy)
        copy.execute("PRAGMA query_only = ON")
        copy.execute("PRAGMA trusted_schema = OFF")
        for limit, value in _LIMITS.items():
            copy.setlimit(limit, value)
        copy.set_authorizer(_authorised)
        return copy

    def run(self, query: str) -> Rows | None:
        """Return the rows of a query; None where it is no query, does more than read, or is over a limit."""
        steps, stop = 0, time.monotonic() + SECONDS

        def over() -> bool:
            nonlocal steps
            steps += EVERY
            return steps > STEPS or time.monotonic() > stop

        self._database.set_progress_handler(over, EVERY)
        try:
            answer = self._database.execute(query)
            rows: Rows = answer.fetchmany(ROWS + 1)
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError):
            return None
        finally:
            self._database.set_progress_handler(None, 0)
        return rows if answer.description is not None and len(rows) <= ROWS else None

    def scores(self, responses: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """Return 1 where a query returns the rows of the right one, else 0.

        The order of rows counts where the right query orders them.
        """
        same = [self._same(response, right) for response, right in zip(responses, references, strict=True)]
        return np.array(same, dtype=np.float64)

    def _same(self, response: str, right: str) -> bool:
        wanted, result = self.run(right), self.run(response)
        if wanted is None or result is None:
            return False
        ordered = "order by" in " ".join(right.lower().split())
        return result == wanted if ordered else sorted(map(repr, result)) == sorted(map(repr, wanted))


def _authorised(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    known = action != sqlite3.SQLITE_FUNCTION or (second or "").lower() in _FUNCTIONS
    return sqlite3.SQLITE_OK if action in _ALLOWED and known else sqlite3.SQLITE_DENY


def copied(path: Path) -> Callable[[sqlite3.Connection], object]:
    """Return what copies a database file, which is opened for reading only."""

    def fill(copy: sqlite3.Connection) -> None:
        try:
            source = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            try:
                source.backup(copy)
            finally:
                source.close()
        except sqlite3.Error as error:
            raise RequestError(f"{path}: is not a readable SQLite database: {error}.") from None

    return fill
