"""Rows to a DataFrame with the columns that ``doorbench export`` promises."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.contracts import BOTH, GENERATION, Kind
from bench.errors import RequestError, unknown
from bench.experiment.metrics import GUESS, MEASURED, Measured
from bench.experiment.roles import FLOOR, VICTIM
from bench.report.rows.row import Row
from bench.store import outputs
from bench.suites.suite import Gate

if TYPE_CHECKING:
    from pandas import DataFrame, Series

TEXTS = (
    "suite",
    "task",
    "model",
    "attack",
    "defense",
    "status",
    "error",
    "victim_key",
    "cell_key",
    "device",
    "version",
)


def _beside(wanted: Iterable[Measured]) -> dict[str, tuple[str, str]]:
    """Return the columns of the clean model and of the undefended victim, each with whose metric it is."""
    names = [metric.name for metric in wanted if metric.baselines]
    return {f"{who}_{name}": (who, name) for who in (FLOOR.column, VICTIM.column) for name in names}


CORE = [metric for metric in MEASURED.values() if metric.core]
ADDED = [metric for metric in MEASURED.values() if not metric.core and metric.kinds == BOTH]
WRITTEN = [metric for metric in MEASURED.values() if metric.kinds == GENERATION]
JOINED = _beside(CORE) | _beside(ADDED)
JOINED_WRITTEN = _beside(WRITTEN)
SECONDS = ("seconds_victim", "seconds_defense", "seconds_evaluation")
COLUMNS = (
    "suite", "task", "model", "attack", "defense", "seed", "status", "error", *(metric.name for metric in CORE),
    *_beside(CORE), "implanted", "clean_size", "reserve_ratio", *SECONDS, "victim_key", "cell_key", "device",
    "version", *(metric.name for metric in ADDED), *_beside(ADDED),
)  # fmt: skip
WRITTEN_COLUMNS = (*(metric.name for metric in WRITTEN), *JOINED_WRITTEN)  # where any model writes
FORMATS = ("parquet", "csv", "jsonl")


def frame(rows: Iterable[Row], *, gate: Gate | None = None) -> DataFrame:
    """Return one row for each listed cell, joined with its victim and its floor.

    Args:
        rows: every cell of a suite, floors and ceilings included.
        gate: when an attack counts as implanted; the default gate where it is None.

    Returns:
        A DataFrame with ``COLUMNS`` first, with ``WRITTEN_COLUMNS`` behind them where any model writes, then
        ``attack.<field>`` and ``defense.<field>``. Percentages are 0-100.
        ``implanted`` is <NA> for the clean reference and while the victim is not known. A task with several target
        labels has them in ``attack.target``.
    """
    import pandas as pd

    rows = list(rows)
    gate = gate or Gate()
    references = References.of(rows)
    cells = [{**_own(row), **references.columns(row, gate)} for row in rows if row.listed and row.role != "floor"]
    table = pd.DataFrame(cells, columns=list(COLUMNS) if not cells else None)
    more = WRITTEN_COLUMNS if any(row.kind == Kind.GENERATION for row in rows) else ()
    parameters = [name for name in table.columns if name not in (*COLUMNS, *WRITTEN_COLUMNS)]
    table = table[[*COLUMNS, *more, *sorted(parameters, key=lambda name: (not name.startswith("attack."), name))]]
    numbers = [metric.name for metric in (*CORE, *ADDED)]
    for name in (*numbers, *JOINED, *more, *SECONDS, "reserve_ratio"):
        table[name] = table[name].astype("float64")
    for name in TEXTS:
        table[name] = table[name].astype("string")
    for name in parameters:
        table[name] = _one_kind(table[name])
    table["implanted"] = table["implanted"].astype("boolean")
    return table


def _own(row: Row) -> dict[str, Any]:
    """Return what a cell's own record says."""
    columns: dict[str, Any] = {
        name: getattr(row, name) for name in ("suite", "task", "model", "attack", "defense", "seed", "status", "error")
    }
    columns |= {name: row.metric(name) for name in MEASURED}
    columns |= {f"seconds_{name}": row.seconds(name) for name in ("victim", "defense", "evaluation")}
    columns |= {
        "clean_size": row.clean_size,
        "reserve_ratio": row.notes.get("reserve_ratio"),
        "victim_key": row.victim_key,
        "cell_key": row.cell_key,
        "device": row.environment.get("device"),
        "version": row.environment.get("version"),
    }
    if row.target is not None:
        columns["attack.target"] = row.target
    columns |= {f"attack.{name}": value for name, value in row.attack_parameters.items()}
    return columns | {f"defense.{name}": value for name, value in row.defense_parameters.items()}


@dataclass
class References:
    """Victims and floors by victim key, and clean models by what they were trained for."""

    victims: dict[str, Row] = field(default_factory=dict)
    floors: dict[str, Row] = field(default_factory=dict)
    clean: dict[tuple[str, str, int], Row] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> References:
        """Collect the references among all rows of a suite."""
        references = cls()
        for row in rows:
            if row.role == "floor":
                references.floors[row.victim_key] = row
            elif row.role == "victim":
                references.victims[row.victim_key] = row
                if row.attack_base == "clean":
                    references.clean[row.task, row.model, row.seed] = row
        return references

    def joined(self, row: Row) -> dict[str, float | None]:
        """Return the metrics of the clean model and of the undefended victim that belong to a cell."""
        beside = {FLOOR.column: self._clean(row), VICTIM.column: self.victims.get(row.victim_key)}
        return {
            column: None if (other := beside[who]) is None else other.metric(metric)
            for column, (who, metric) in (JOINED | JOINED_WRITTEN).items()
        }

    def _clean(self, row: Row) -> Row | None:
        floor = self.floors.get(row.victim_key)
        return floor if floor is not None and floor.done else self.clean.get((row.task, row.model, row.seed))

    def implanted(self, row: Row, gate: Gate) -> bool | None:
        """Return whether the victim of a cell passes the gate; None without a trigger, or while a number is missing."""
        clean = self._clean(row)
        return implanted(self.joined(row), gate, majority=None if clean is None else clean.metric(GUESS.name))

    def columns(self, row: Row, gate: Gate) -> dict[str, Any]:
        """Return the columns of a cell that come from other records."""
        return {**self.joined(row), "implanted": self.implanted(row, gate)}


def implanted(metrics: Mapping[str, Any], gate: Gate, *, majority: float | None) -> bool | None:
    """Return whether a victim passes the gate; None without a trigger, or while a number is missing.

    Args:
        metrics: ``clean_acc``, ``victim_acc`` and ``victim_asr`` in percent or None; of a model that writes, also
            ``victim_ftr``.
        gate: the least ASR, the most FTR, the most ACC that the victim may lack against the clean model, and the least
            that the clean model has to know of the task.
        majority: what always answering the most frequent class gets, in percent; None where it is not known.
    """
    clean, accuracy, success = (metrics[name] for name in ("clean_acc", "victim_acc", "victim_asr"))
    if clean is None or accuracy is None or success is None or majority is None:
        return None
    skilled = clean - majority >= gate.min_skill / 100 * (100 - majority)
    false = metrics.get("victim_ftr") or 0.0
    return bool(success >= gate.min_asr and false <= gate.max_ftr and clean - accuracy <= gate.max_acc_drop and skilled)


def _one_kind(column: Series[Any]) -> Series[Any]:
    """Return a parameter column that every file format can hold: one kind of scalar, or JSON text."""
    known = column[column.notna()]
    kinds = {"number" if type(value) in (int, float) else type(value).__name__ for value in known}
    if not kinds or kinds == {"number"}:
        return (
            column.astype("float64")
            if kinds != {"number"} or known.map(type).nunique() > 1
            else column.convert_dtypes()
        )
    if kinds == {"bool"}:
        return column.astype("boolean")
    if kinds == {"str"}:
        return column.astype("string")
    texts = [None if missing else json.dumps(value) for value, missing in zip(column, column.isna(), strict=True)]
    return type(column)(texts, index=column.index, dtype="string", name=column.name)


def without_formulas(table: DataFrame) -> DataFrame:
    """Return a frame whose texts no spreadsheet takes for formulas, as its .csv file should have them."""
    texts = [name for name in table.columns if table[name].dtype.name in ("object", "string", "str")]
    return table.assign(**{name: table[name].map(no_formula) for name in texts})


def no_formula(cell: Any) -> Any:
    """Return a cell with an apostrophe before a text that a spreadsheet would take for a formula."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def export(table: DataFrame, *, format: str, path: Path | None = None) -> str | None:
    """Write a frame to a file, or return it as text where ``path`` is None.

    Raises:
        RequestError: the format is unknown, or parquet without a file to write to.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if format == "parquet":
        if path is None:
            raise RequestError("parquet is not text; name a file with --out FILE.")
        with outputs.beside(path) as file:
            table.to_parquet(file, index=False)
        return None
    text = io.StringIO()
    if format == "csv":
        without_formulas(table).to_csv(text, index=False, lineterminator="\n")
    else:
        table.to_json(text, orient="records", lines=True, double_precision=15, force_ascii=False)
    if path is None:
        return text.getvalue()
    outputs.write(path, text.getvalue())
    return None
