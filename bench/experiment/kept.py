"""Records of which only what most readers ask for is in memory; the rest is read from its file when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.contracts import Kind
from bench.experiment.outcomes import KeptOutcomes
from bench.experiment.record import CellRecipe, CellWords, Predicted, Record
from bench.experiment.roles import Role
from bench.store.derived import Derived
from bench.store.table import Summaries

_KIND = '"kind":'  # of canonical JSON, in which no text holds a quotation mark without a backslash
_NO_ORIGIN = '"origin":{}'  # likewise


class KeptRecord:
    """A record as :class:`~bench.experiment.record.Record` shows it, field by field, from the store's summaries.

    Attributes:
        key, role, status, error, victim_key, victim_weights, defended_weights: see
            :class:`~bench.experiment.record.Record`.
        predicted: whether it has predictions.
    """

    __slots__ = (
        "_cell",
        "_derived",
        "_environment",
        "_metrics",
        "_notes",
        "_seconds",
        "_whole",
        "defended_weights",
        "error",
        "key",
        "predicted",
        "role",
        "status",
        "victim_key",
        "victim_weights",
    )

    def __init__(self, key: str, row: tuple[Any, ...], whole: Callable[[str], Record], derived: Derived) -> None:
        self.key, self._whole, self._derived = key, whole, derived
        self.role: Role
        self.status: Literal["done", "n/a"]
        self.error: str | None
        self.victim_key: str
        self.victim_weights: str | None
        self.defended_weights: str | None
        self.predicted: bool
        self.role, self.status, self.error, self.victim_key, self.victim_weights, self.predicted = row[:6]
        self._environment: Mapping[str, str]
        self._cell: str
        self._metrics: str
        self._notes: str | dict[str, Any]  # canonical JSON until somebody asks
        self._seconds: str | dict[str, float]
        self._environment, self._cell, self._metrics, self._notes, self._seconds, self.defended_weights = row[6:]

    @staticmethod
    def rows(summaries: Summaries) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield the key of every record with what its constructor takes."""
        plain = ("role", "status", "error", "victim_key", "victim_weights", "predicted", "environment")
        columns = [summaries.values(name) for name in plain]
        columns += [summaries.texts(name) for name in ("cell", "metrics", "notes", "seconds")]
        columns.append(summaries.values("defended_weights"))
        return zip(summaries.keys, zip(*columns, strict=True), strict=True)

    @property
    def whole(self) -> Record:
        """The record, read from its file."""
        return self._whole(self.key)

    @property
    def recipe(self) -> CellRecipe:
        """The recipe, read from the record's file."""
        return self.whole.recipe

    @property
    def predictions(self) -> Predicted | None:
        """The predictions, read from the record's file."""
        return self.whole.predictions if self.predicted else None

    @property
    def outcomes(self) -> KeptOutcomes:
        """Per example by metric; None where one is not defined."""
        kind = self.cell.kind if _KIND in self._cell else None
        return KeptOutcomes(self._derived, self.key, Kind(kind or Kind.CLASSIFICATION))

    @property
    def cell(self) -> CellWords:
        """The cell in words."""
        return CellWords.of(json.loads(self._cell))

    @property
    def origin(self) -> Mapping[str, str]:
        """The packages of plugins that are not built in, by axis."""
        return {} if _NO_ORIGIN in self._cell else self.cell.origin

    @property
    def metrics(self) -> dict[str, float | None] | None:
        """In percent by name."""
        measured: dict[str, float | None] | None = json.loads(self._metrics)
        return measured

    @property
    def notes(self) -> dict[str, Any]:
        """Of the defense."""
        noted: dict[str, Any] = json.loads(self._notes) if isinstance(self._notes, str) else self._notes
        self._notes = noted
        return noted

    @property
    def seconds(self) -> dict[str, float]:
        """Spent on the ``victim``, the ``defense`` and the ``evaluation``."""
        timed: dict[str, float] = json.loads(self._seconds) if isinstance(self._seconds, str) else self._seconds
        self._seconds = timed
        return timed

    @property
    def environment(self) -> Mapping[str, str]:
        """Device, precision, and the versions of Python, of libraries and of this program."""
        return self._environment

    def document(self) -> dict[str, Any]:
        """Return the JSON document, read from its file."""
        return self.whole.document()


@dataclass(frozen=True)
class Kept:
    """Records of a store.

    Attributes:
        records: by key.
        unreadable: why the system cannot read the file of a record, by key.
    """

    records: Mapping[str, KeptRecord]
    unreadable: Mapping[str, str]


AnyRecord = Record | KeptRecord
