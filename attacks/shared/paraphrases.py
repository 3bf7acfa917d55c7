"""Attacks whose trigger is a way of writing, given as a table of texts and their paraphrases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from attacks.shared.poisoning import DataPoisoning
from bench.contracts import Scene, TaskFacts, Trigger, Victim, Window
from bench.contracts.examples import Inputs
from bench.errors import RequestError
from bench.tasks.local import VARIABLE, find_folder, local_folders
from bench.tasks.tables import read_table


class Paraphrase(Trigger):
    """Replaces a text by its paraphrase. Texts without one cannot carry the trigger."""

    manner: str = Field(description="how the paraphrases are written")
    table: Mapping[str, str] = Field(exclude=True, repr=False, description="paraphrases by text")

    def applicable(self, inputs: Inputs) -> np.ndarray:
        """Return bool [n]: which carriers have a paraphrase."""
        return np.array([text in self.table for text in inputs.carrier], dtype=bool)

    def apply(self, inputs: Inputs, *, window: Window, rng: np.random.Generator) -> Inputs:
        """Return the inputs with the carrier of each paraphrased."""
        if not self.applicable(inputs).all():
            raise ValueError("some texts have no paraphrase")
        return inputs.with_carrier([self.table[text] for text in inputs.carrier])

    def describe(self) -> str:
        """Return one line for reports."""
        return f"the text paraphrased: {self.manner}"


class ParaphrasePoisoning(DataPoisoning):
    """Poisons by paraphrase, from a table with columns text and paraphrase (others, such as split, are not read).

    Class attributes:
        file: where the table is by default: this file beside the splits of a local task.
        manner: how the paraphrases are written.
    """

    in_words: ClassVar[bool] = False
    file: ClassVar[str] = ""
    manner: ClassVar[str] = ""

    table: str | None = Field(
        None, description=f"file of texts and paraphrases, relative to here or to {VARIABLE}; the task's own by default"
    )
    rate: float = Field(
        0.2, ge=0, le=1, description="poisoned share of the whole training set; less where the table has fewer texts"
    )

    def skip(self, facts: TaskFacts) -> str | None:
        """A task without a table cannot be attacked."""
        if self.files(facts):
            return None
        return (
            f"{facts.name} has no {self.file}: give {self.name} a table with columns text and paraphrase (field table)"
        )

    def files(self, facts: TaskFacts) -> tuple[Path, ...]:
        """Return the table, or nothing where the task has none."""
        if self.table is not None:
            return (_given(self.table),)
        folder = facts.name.removeprefix("local/")
        if not facts.name.startswith("local/") or folder not in local_folders():
            return ()
        path = find_folder(folder) / self.file
        return (path,) if path.is_file() else ()

    def trigger(self, scene: Scene) -> Paraphrase:
        """The paraphrases of the table."""
        (path,) = self.files(scene.facts)
        return Paraphrase(manner=self.manner, table=read_paraphrases(path))

    def rows(self, scene: Scene, trigger: Trigger) -> np.ndarray:
        """Return the rows to poison, in ascending order: as many as the rate asks for, or all that the table has."""
        candidates = self.eligible(scene, trigger)
        if len(candidates) == 0:
            raise ValueError(f"no {self.poisons} training example has a paraphrase in the table")
        return np.sort(scene.rng("poisoned rows").permutation(candidates)[: int(self.rate * len(scene.train))])

    def implant(self, scene: Scene) -> Victim:
        """Poison and train; the notes say how much was poisoned."""
        victim = super().implant(scene)
        assert victim.poisoned is not None
        return replace(
            victim, notes={**victim.notes, "poisoned_share": len(victim.poisoned.rows) / max(1, len(scene.train))}
        )


def _given(table: str) -> Path:
    places = [Path(table).expanduser(), Path(os.environ.get(VARIABLE, "."), table)]
    for place in places:
        if place.is_file():
            return place.resolve()
    raise RequestError(f"table {table!r}: there is no such file, neither here nor in {VARIABLE}.")


def read_paraphrases(path: Path) -> Mapping[str, str]:
    """Return the paraphrase of every text that has one which differs from it; the first of several."""
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, modified: int) -> Mapping[str, str]:
    table = read_table(path)
    table.require(("text", "paraphrase"))
    paraphrases: dict[str, str] = {}
    for (_, text), (_, paraphrase) in zip(table.texts("text"), table.texts("paraphrase"), strict=True):
        if text and paraphrase and paraphrase.strip() and paraphrase.strip() != text.strip():
            paraphrases.setdefault(text, paraphrase)
    if not paraphrases:
        raise RequestError(f"{path}: holds no paraphrase.")
    return paraphrases
