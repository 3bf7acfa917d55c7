"""What the report room works on: the cells of a suite, each with its record where there is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

from bench.contracts import Board, Kind, Needs
from bench.errors import RequestError
from bench.experiment import metrics
from bench.experiment.kept import AnyRecord
from bench.experiment.roles import Role

NOWHERE: Mapping[str, str] = {}  # the environment of what was not run
_in_order: Callable[[metrics.Percentages], tuple[float, ...]] = itemgetter(*metrics.MEASURED)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell of a suite.

    Attributes:
        suite, task, model, attack, defense: as the suite spells them.
        seed: of the cell.
        role: ``defended``; ``detected``: a score for the model; ``victim``: no defense; ``floor``: the clean model on
            the victim's triggered test set.
        victim_key, cell_key: 64 hexadecimal digits; rows of one victim share its key.
        clean_size: clean examples that the defense may tune on; 0 where it reads none.
        listed: whether the suite asks for this cell; the others are floors and ceilings.
        target: the target label, or the payload as the suite spells it; None for the clean model.
        attack_base, defense_base: the names without parameters, e.g. ``e-pur+fine-mixing``.
        attack_parameters, defense_parameters: every field as JSON values.
        needs: what the defense touches.
        record: None where the cell has not been run.
        failure: why the last attempt failed; None where there is none.
        path: the record's file.
        conditions: the sizes of the task and the budget of the victim's training, by field.
        listed_kind: the kind of model, where the suite knows it; else the record says it.
        listed_on: the threat model, where the suite knows it; else the record says it.
    """

    suite: str
    task: str
    model: str
    attack: str
    defense: str
    seed: int
    role: Role
    victim_key: str
    cell_key: str
    clean_size: int
    listed: bool = True
    target: int | str | None = None
    attack_base: str = ""
    defense_base: str = ""
    attack_parameters: Mapping[str, Any] = field(default_factory=dict)
    defense_parameters: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    record: AnyRecord | None = None
    failure: str | None = None
    path: Path | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)
    listed_kind: Kind | None = None
    listed_on: Board | None = None

    def renamed(self, **fields: Any) -> Self:
        """Return the row with other values of ``task``, ``victim_key`` or ``listed``; itself where none is another.

        What was computed from its record stays, as none of it depends on these. Before anything was, any field may be
        another. It takes a third of the time of :func:`dataclasses.replace`, and is for rows by the hundred thousand.
        """
        own = self.__dict__
        for name, value in fields.items():
            if own[name] is not value and own[name] != value:
                break
        else:
            return self
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, **fields)
        return twin

    @property
    def board(self) -> Board:
        """The threat model on whose board the cell is; records from before there were boards have the first one."""
        if self.listed_on is not None:
            return self.listed_on
        stated = None if self.record is None else self.record.cell.board
        return Board(stated) if stated in set(Board) else Board.FINE_TUNED

    @property
    def kind(self) -> Kind:
        """The kind of model; records from before there were kinds are of classifiers."""
        if self.listed_kind is not None:
            return self.listed_kind
        stated = None if self.record is None else self.record.cell.kind
        return Kind(stated or Kind.CLASSIFICATION)

    @property
    def oracle(self) -> bool:
        """Whether the defense is told the trigger and the target label."""
        return Needs.ORACLE in self.needs

    @property
    def external(self) -> str:
        """The package that the defense comes from; empty for one that ships with the project."""
        return "" if self.record is None else self.record.origin.get("defense", "")

    @property
    def status(self) -> str:
        """``done``, ``failed``, ``n/a`` or ``waiting``."""
        if self.record is not None:
            return self.record.status
        return "waiting" if self.failure is None else "failed"

    @property
    def error(self) -> str | None:
        """Why the cell failed or makes no sense."""
        return self.failure if self.record is None else self.record.error

    @property
    def done(self) -> bool:
        """Whether there are numbers."""
        return self.record is not None and self.record.status == "done"

    @property
    def predicts(self) -> bool:
        """Whether there are predictions: a detector leaves none."""
        return self.record is not None and self.record.status == "done" and self.record.predicted

    @cached_property
    def percentages(self) -> metrics.Percentages:
        """Every measured metric in percent; NaN where it is not defined or not known yet.

        A metric that is younger than the record is computed from its predictions.
        """
        stated = dict((self.record.metrics if self.record else None) or {})
        if self.predicts and not metrics.measured_of(self.kind).keys() <= stated.keys():
            stated = metrics.aggregated(self.outcomes) | stated
        return {**metrics.UNKNOWN, **{name: float(value) for name, value in stated.items() if value is not None}}

    @property
    def measured(self) -> tuple[float, ...]:
        """The same, in the order of :data:`bench.experiment.metrics.MEASURED`."""
        return _in_order(self.percentages)

    def metric(self, name: str) -> float | None:
        """Return a metric in percent; None where it is not defined or not known yet."""
        value = self.percentages[name]
        return None if math.isnan(value) else value

    def seconds(self, name: str) -> float | None:
        """Return how long ``victim``, ``defense`` or ``evaluation`` took; None where it is not known."""
        value = None if self.record is None else self.record.seconds.get(name)
        return None if value is None else float(value)

    @property
    def notes(self) -> Mapping[str, Any]:
        """What the defense says of what it did, in JSON values; empty without a record."""
        return {} if self.record is None else self.record.notes

    @property
    def environment(self) -> Mapping[str, str]:
        """Where the record was made: device, precision and versions; empty without a record."""
        return NOWHERE if self.record is None else self.record.environment

    @property
    def unconverged(self) -> bool:
        """Whether the defense stopped training at its limit of steps, before its loss was low enough."""
        return _stopped_early(self.notes)

    @property
    def victim_weights(self) -> str | None:
        """The SHA-256 of the victim's weights; None in records from before they named it."""
        return None if self.record is None else self.record.victim_weights

    @property
    def defended_weights(self) -> str | None:
        """The SHA-256 of the weights that the defense left; None where it leaves none, or the record names none."""
        return None if self.record is None else self.record.defended_weights

    @cached_property
    def outcomes(self) -> Mapping[str, metrics.Outcomes | None]:
        """Per example and measured metric: 1, 0 or NaN, [n clean] or [n triggered]; None where it is not defined.

        Raises:
            RequestError: the predictions in the record cannot be unpacked.
        """
        record = self.record
        if record is None or not self.predicts:
            raise ValueError(f"cell {self.cell_key[:12]} has no predictions: it is {self.status}")
        try:
            return record.outcomes
        except (ValueError, IndexError) as error:  # only a file that no evaluator wrote
            where = self.path or "the store"
            raise RequestError(f"{where}: record {self.cell_key[:12]}, field predictions: {error}.") from None


def _stopped_early(notes: Mapping[str, Any]) -> bool:
    return notes.get("converged") is False or any(
        _stopped_early(value) for value in notes.values() if isinstance(value, Mapping)
    )


def first_line(error: str | None, limit: int = 160) -> str:
    """Return the telling line of an error: the last one of a traceback, else the first."""
    lines = [line.strip() for line in (error or "no reason was stored").splitlines() if line.strip()] or ["unknown"]
    line = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return line if len(line) <= limit else line[: limit - 1] + "…"
