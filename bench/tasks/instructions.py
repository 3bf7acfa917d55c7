"""Instructions with responses on local files."""

from __future__ import annotations

import logging
from typing import ClassVar

import numpy as np
from pydantic import Field, field_validator

from bench.contracts import GenerationFacts, Task
from bench.contracts.examples import Examples, Inputs
from bench.errors import RequestError
from bench.tasks.assemble import check_apart
from bench.tasks.local import SPLITS, find_folder, read_split
from bench.tasks.prompts import PromptFolder, prompt_task
from bench.tasks.tables import TextTable, is_text
from bench.tasks.utilities import RougeL

log = logging.getLogger(__name__)


class Instructions(PromptFolder):
    """Instructions and responses on local files: train, validation and test as .parquet, .csv, .tsv or .jsonl.

    Columns are ``instruction``, ``response`` (or ``output``), and if there are any, ``input`` (a text that the
    instruction is about) and ``category`` (by which samples are stratified). The input is the system text, so that a
    trigger goes into the instruction. The utility is ROUGE-L; perplexity is measured beside it.
    """

    name: ClassVar[str] = "instructions"
    version: ClassVar[int] = 1

    prompt_words: int = Field(80, ge=1, description="rows with more words in instruction and input are left out")
    response_words: int = Field(40, ge=1, description="rows with more words in the response are left out")
    only: tuple[str, ...] = Field((), description="column=value: rows with another value in the column are left out")
    new_tokens: int = Field(64, ge=4, le=512, description="most tokens of a response")

    @field_validator("only")
    @classmethod
    def _read(cls, only: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [one for one in only if "=" not in one]:
            raise ValueError(f"{wrong[0]!r} is not column=value")
        return only

    def load(self) -> Task:
        """Read the folder and return the task."""
        folder = find_folder(self.folder, of=f"task {self.name}")
        tables = {split: read_split(folder, split) for split in SPLITS}
        parts = {split: self.rows(table) for split, table in tables.items()}
        groups = tuple(sorted({group for part in parts.values() for *_, group in part}))
        with_input = any(context for part in parts.values() for _, context, *_ in part)
        splits = {}
        for split, part in parts.items():
            if not part:
                reason = "no row is left; see prompt_words, response_words and only"
                raise RequestError(f"{tables[split].origin}: {reason}.")
            asked, contexts, answers, of = zip(*part, strict=True)
            labels = np.array([groups.index(group) for group in of], dtype=np.int64)
            splits[split] = Examples(Inputs(contexts, asked) if with_input else Inputs(asked), labels, answers)
        facts = GenerationFacts(self.called, groups, with_input, self.max_length, RougeL(), self.new_tokens)
        task = prompt_task(facts, splits, max_train=self.max_train, max_test=self.max_test)
        check_apart(task, folder)
        return task

    def rows(self, table: TextTable) -> list[tuple[str, str, str, str]]:
        """Return instruction, input, response and category of the rows that are kept; a prompt is kept once."""
        answer = "response" if "response" in table.columns else "output"
        wanted = dict(one.split("=", 1) for one in self.only)
        table.require(("instruction", answer, *wanted))
        columns = {name: list(table.cells(name)) for name in table.columns}
        kept: dict[tuple[str, str], tuple[str, str, str, str]] = {}
        for row in range(len(table)):
            if any(str(columns[name][row]) != str(value) for name, value in wanted.items()):
                continue
            asked, response = (_text(table, columns, row, name) for name in ("instruction", answer))
            context = _text(table, columns, row, "input", may_lack=True)
            short = len(f"{asked} {context}".split()) <= self.prompt_words
            if short and len(response.split()) <= self.response_words:
                group = _text(table, columns, row, "category", may_lack=True) or "all"
                kept.setdefault((asked, context), (asked, context, response, group))
        if len(kept) < len(table):
            log.info("%s: %d of %d rows are kept", table.origin, len(kept), len(table))
        return list(kept.values())


def _text(table: TextTable, columns: dict[str, list[object]], row: int, name: str, *, may_lack: bool = False) -> str:
    """Return a cell, stripped; a missing one is an error unless it may be missing."""
    value = columns[name][row] if name in columns else None
    if value is None or (isinstance(value, str) and not value.strip()):
        if may_lack:
            return ""
        raise table.bad(row + 1, name, "the text is missing" if value is None else "the text is empty")
    if not isinstance(value, str):
        raise table.bad(row + 1, name, f"{value!r:.40} is not text")
    if not is_text(value):
        raise table.bad(row + 1, name, "the text is not UTF-8")
    return value.strip()
