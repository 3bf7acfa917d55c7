"""Tasks that ship with the project: sentences from a seeded grammar, the same on every machine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import ClassVar

from pydantic import Field

from bench.contracts import Task, TaskFacts, TaskSource
from bench.tasks import entities, questions, reviews
from bench.tasks.assemble import Columns, assemble
from bench.tasks.dice import Dice
from bench.tasks.tables import TextTable

SIZES = {"train": 4000, "validation": 600, "test": 1000}
Row = tuple[str, ...]


class Generated(TaskSource):
    """Fills three disjoint, balanced splits from a grammar.

    With few hard examples a task can be learned from a few dozen labels by an encoder that knows English, as real tasks
    can by larger encoders. That is what makes the effect of a defense with few labels visible in a small run.
    """

    version: ClassVar[int] = 2
    labels: ClassVar[tuple[str, ...]]
    columns: ClassVar[Columns]

    hard: float = Field(0.05, ge=0, le=1, description="share of examples whose words suggest the other label")

    @abstractmethod
    def draw(self, dice: Dice, label: int) -> Row:
        """Return the texts of one example with the given label."""

    def load(self) -> Task:
        """Generate the splits; no text occurs twice."""
        facts = TaskFacts(self.name, self.labels, self.columns.text_pair is not None, self.max_length)
        tables = _tables(type(self), self.hard)
        return assemble(
            facts=facts, columns=self.columns, tables=tables, max_train=self.max_train, max_test=self.max_test
        )


class Reviews(Generated):
    """Single-sentence sentiment about films, meals, phones, hotels and more, with negation, contrast and concession."""

    name: ClassVar[str] = "reviews"
    labels: ClassVar[tuple[str, ...]] = reviews.LABELS
    columns: ClassVar[Columns] = Columns()

    def draw(self, dice: Dice, label: int) -> Row:
        """Return one review."""
        return (reviews.review(dice, label, hard=self.hard),)


class Questions(Generated):
    """Whether two questions ask the same, with paraphrases, swapped roles, changed details and opposites."""

    name: ClassVar[str] = "questions"
    labels: ClassVar[tuple[str, ...]] = questions.LABELS
    columns: ClassVar[Columns] = Columns(text_pair="text_pair")

    def draw(self, dice: Dice, label: int) -> Row:
        """Return one pair of questions."""
        return questions.question_pair(dice, label, hard=self.hard)


class Entities(Generated):
    """Whether the rows of two tables describe the same product: entity matching, as middleware of databases does it."""

    version: ClassVar[int] = 1
    name: ClassVar[str] = "entities"
    labels: ClassVar[tuple[str, ...]] = entities.LABELS
    columns: ClassVar[Columns] = Columns(text_pair="text_pair")

    def draw(self, dice: Dice, label: int) -> Row:
        """Return one row of each table."""
        return entities.entity_pair(dice, label, hard=self.hard)


@lru_cache(maxsize=4)
def _tables(kind: type[Generated], hard: float) -> Mapping[str, TextTable]:
    """Generate the whole splits once for all sizes that are taken of them."""
    return _generate(kind(hard=hard).draw, seed=2210, columns=kind.columns, name=kind.name)


def _generate(draw: Callable[[Dice, int], Row], *, seed: int, columns: Columns, name: str) -> dict[str, TextTable]:
    dice, seen = Dice(seed), set[Row]()
    tables = {}
    for split, size in SIZES.items():
        rows: list[tuple[Row, int]] = []
        while len(rows) < size:
            label = len(rows) % 2
            row = draw(dice, label)
            if row not in seen:
                seen.add(row)
                rows.append((row, label))
        texts = {column: [row[i] for row, _ in rows] for i, column in enumerate(columns.texts)}
        tables[split] = TextTable(f"{name}/{split}", {**texts, columns.label: [label for _, label in rows]})
    return tables
