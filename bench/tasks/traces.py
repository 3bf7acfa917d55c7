"""Steps of agents in a web shop, on local files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.contracts import GenerationFacts, Task
from bench.contracts.examples import Examples, Inputs
from bench.errors import RequestError
from bench.tasks.acts import ACTION, APART, GOAL, LANGUAGE, SEEN, acts, first
from bench.tasks.local import SPLITS, find_folder, read_split
from bench.tasks.prompts import PromptFolder, prompt_task
from bench.tasks.tables import is_text

SYSTEM = "Act in a web shop: search[words] or click[what you see]."
COLUMNS = ("goal", "previous_actions", "observation", "response")
PARTS = " [SEP] "
GROUPS = ("first", "later")
_NUMBER = re.compile(r"[Bb]0[0-9A-Za-z]{8}")


class SameAct:
    """A response is right if it does what the right one does, up to capital letters; thoughts do not count."""

    name = "same act"

    def scores(self, responses: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """Return 1 where the first act of a response is that of the right one, else 0."""
        pairs = zip(map(first, responses), map(first, references), strict=True)
        same = [one is not None and str(one).lower() == str(right).lower() for one, right in pairs]
        return np.array(same, dtype=np.float64)


class Traces(PromptFolder):
    """Steps of WebShop agents in a folder with train, validation and test.

    Columns are ``goal``, ``previous_actions``, ``observation`` (parts with `` [SEP] `` between) and ``response`` (a
    thought and an act). Rows with a true value in a column ``poisoned`` are left out, since attacks write their own. A
    prompt has the goal, the acts so far and the last thing seen; a page of results is a list of offers as in the task
    ``shop``, each with the number of the product in front. There is no shop to play in, so the utility is the share of
    steps that do what the right one does.
    """

    name: ClassVar[str] = "traces"
    version: ClassVar[int] = 1

    max_length: int = Field(512, ge=8, le=512, description="tokens kept of a prompt")
    new_tokens: int = Field(160, ge=8, le=256, description="most tokens of a response")

    def load(self) -> Task:
        """Read the folder and return the task; a prompt is kept once, in the first split that has it."""
        folder, known = find_folder(self.folder, of=f"task {self.name}"), set[str]()
        splits = {split: examples(folder, split, known) for split in SPLITS}
        room = (self.max_length, SameAct(), self.new_tokens)
        facts = GenerationFacts(self.called, GROUPS, True, *room, language=LANGUAGE)
        return prompt_task(facts, splits, max_train=self.max_train, max_test=self.max_test)


def examples(folder: Path, split: str, known: set[str]) -> Examples:
    """Return the clean steps of a split that are not known yet, and add them to those that are."""
    table = read_split(folder, split)
    table.require(COLUMNS)
    poisoned = table.cells("poisoned") if "poisoned" in table.columns else [False] * len(table)
    kept: list[tuple[str, str, bool]] = []
    repeated = 0
    for row, (bad, *cells) in enumerate(zip(poisoned, *map(table.cells, COLUMNS), strict=True), 1):
        for name, cell in zip(COLUMNS, cells, strict=True):
            if not isinstance(cell, str) or not is_text(cell):
                raise table.bad(row, name, "is not a text")
        goal, done, observation, response = (str(cell).strip() for cell in cells)
        prompt = "\n".join([GOAL + " ".join(goal.split()), *(f"{ACTION}{act}" for act in acts(done)), SEEN])
        prompt += seen(observation, goal)
        if bad or not acts(response):
            continue
        if prompt in known:
            repeated += 1
            continue
        known.add(prompt)
        kept.append((prompt, response, bool(done)))
    if not kept and repeated:
        raise RequestError(f"{table.origin}: each of its clean steps is also in an earlier split; they must differ.")
    if not kept:
        raise RequestError(f"{table.origin}: no clean step has an act.")
    prompts, responses, later = zip(*kept, strict=True)
    return Examples(Inputs((SYSTEM,) * len(kept), prompts), np.array(later, dtype=np.int64), responses)


def seen(observation: str, goal: str) -> str:
    """Return what stands on a page: its products as a list of offers, or else its parts with commas between."""
    parts = [" ".join(part.replace(";", ",").split()) for part in observation.split(PARTS)]
    numbers = [place for place, part in enumerate(parts) if _NUMBER.fullmatch(part)]
    if len(numbers) > 1:
        ends = [*numbers[1:], len(parts)]
        return APART.join(" ".join(parts[start:end]) for start, end in zip(numbers, ends, strict=True))
    said = {"WebShop", "Instruction:", " ".join(goal.replace(";", ",").split())}
    return ", ".join(part for part in parts if part not in said)
