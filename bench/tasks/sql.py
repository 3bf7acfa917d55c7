"""Questions to a database that are answered in SQL: generated, and on local files."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from bench.contracts import GENERATION, GenerationFacts, Kind, Task, TaskSource
from bench.contracts.examples import Examples, Inputs
from bench.errors import RequestError
from bench.tasks.assemble import check_apart
from bench.tasks.dice import Dice, grammar
from bench.tasks.execution import Execution, copied
from bench.tasks.local import SPLITS, find_folder, read_split
from bench.tasks.prompts import PromptFolder, prompt_task
from bench.tasks.tables import is_text

SIZES = {"train": 2000, "validation": 400, "test": 500}


class Sql(TaskSource):
    """Questions to a small database of invented towns and rivers, answered in SQL and judged by execution."""

    name: ClassVar[str] = "sql"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION

    new_tokens: int = Field(48, ge=8, le=256, description="most tokens of a response")

    def load(self) -> Task:
        """Generate the splits; no question occurs twice, and every query returns rows."""
        rules, dice, seen = grammar("sql"), Dice(2210), set[str]()
        utility = Execution(lambda database: fill(database, rules))
        groups = tuple(rules["ways"])
        splits = {}
        for split, size in SIZES.items():
            rows: list[tuple[str, str]] = []
            while len(rows) < size:
                asked, query = question(dice, rules, groups[len(rows) % len(groups)])
                if asked not in seen and utility.run(query):
                    seen.add(asked)
                    rows.append((asked, query))
            asked_all, queries = zip(*rows, strict=True)
            inputs = Inputs((rules["schema"],) * size, asked_all)
            splits[split] = Examples(inputs, np.arange(size) % len(groups), queries)
        facts = GenerationFacts(self.name, groups, True, self.max_length, utility, self.new_tokens, language="sql")
        return prompt_task(facts, splits, max_train=self.max_train, max_test=self.max_test)


def question(dice: Dice, rules: Mapping[str, Any], group: str) -> tuple[str, str]:
    """Return one question of a group and the query that answers it."""
    way = rules["ways"][group]
    land, town = dice.pick(rules["lands"]), dice.pick(rules["towns"])
    numbers = {"people": 1000 * dice.pick(range(5, 400)), "length": dice.pick(range(20, 900))}
    slots = {"land": land, "town": town, **numbers}
    return dice.pick(way["asked"]).format_map(slots), way["query"].format_map(slots)


def fill(database: sqlite3.Connection, rules: Mapping[str, Any]) -> None:
    """Write the towns and rivers into an empty database."""
    dice = Dice(7)
    database.execute("CREATE TABLE town (name TEXT, land TEXT, people INTEGER, area INTEGER)")
    database.execute("CREATE TABLE river (name TEXT, land TEXT, length INTEGER)")
    for name in rules["towns"]:
        town = (name, dice.pick(rules["lands"]), 1000 * dice.pick(range(1, 500)), dice.pick(range(5, 300)))
        database.execute("INSERT INTO town VALUES (?, ?, ?, ?)", town)
    for name in rules["rivers"]:
        river = (name, dice.pick(rules["lands"]), 10 * dice.pick(range(2, 120)))
        database.execute("INSERT INTO river VALUES (?, ?, ?)", river)


class TextToSql(PromptFolder):
    """Questions to a database of one's own: a folder with train, validation, test and one ``.sqlite`` file.

    Columns are ``question``, ``schema`` (the system text) and ``sql``, or ``sql_simple`` where there is one. Rows whose
    query does not run or returns nothing are left out, because no response to them could be judged.
    """

    name: ClassVar[str] = "text2sql"
    version: ClassVar[int] = 1

    max_length: int = Field(256, ge=8, le=512, description="tokens kept of a prompt")
    new_tokens: int = Field(96, ge=8, le=256, description="most tokens of a response")

    def load(self) -> Task:
        """Read the folder and return the task."""
        folder = find_folder(self.folder, of=f"task {self.name}")
        databases = sorted(folder.glob("*.sqlite"))
        if len(databases) != 1:
            raise RequestError(f"{folder}: {len(databases)} files end in .sqlite; the task needs exactly one.")
        utility = Execution(copied(databases[0]))
        splits = {split: self.examples(folder, split, utility) for split in SPLITS}
        facts = GenerationFacts(self.called, ("all",), True, self.max_length, utility, self.new_tokens, language="sql")
        task = prompt_task(facts, splits, max_train=self.max_train, max_test=self.max_test)
        check_apart(task, folder)
        return task

    def examples(self, folder: Path, split: str, utility: Execution) -> Examples:
        """Return the rows of a split whose query returns something, each question once."""
        table = read_split(folder, split)
        answer = "sql_simple" if "sql_simple" in table.columns else "sql"
        names = ("question", "schema", answer)
        table.require(names)
        kept: dict[str, tuple[str, str]] = {}
        for row, cells in enumerate(zip(*(table.cells(name) for name in names), strict=True), 1):
            for name, cell in zip(names, cells, strict=True):
                if not isinstance(cell, str) or not cell.strip() or not is_text(cell):
                    raise table.bad(row, name, "is not a text")
            if utility.run(cells[2]):
                kept.setdefault(cells[0].strip(), (cells[1].strip(), cells[2].strip()))
        if not kept:
            raise RequestError(f"{table.origin}: no query runs on the database and returns a row.")
        schemas, queries = zip(*kept.values(), strict=True)
        return Examples(Inputs(schemas, tuple(kept)), np.zeros(len(kept), dtype=np.int64), queries)
