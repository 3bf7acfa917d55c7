"""Rows to a DataFrame with the columns that ``doorbench export`` promises."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.contracts import BOTH, GENERATION, Kind
from bench.errors import RequestError, unknown
from bench.experiment.metrics import GUESS, MEASURED, Measured
from bench.experiment.roles import FLOOR, VICTIM
from bench.report.rows.row import Row
from bench.store import outputs
from bench.suites.suite import Gate

if TYPE_CHECKING:
    from pandas import DataFrame, Series


def _beside(wanted: Iterable[Measured]) -> dict[str, tuple[str, str]]:
    """Return the columns of the clean model and of the undefended victim, each with whose metric it is."""
    names = [metric.name for metric in wanted if metric.baselines]
    return {f"{who}_{name}": (who, name) for who in (FLOOR.column, VICTIM.column) for name in names}


CORE = [metric for metric in MEASURED.values() if metric.core]
ASKED = [metric for metric in MEASURED.values() if metric.measure]
ADDED = [metric for metric in MEASURED.values() if not metric.core and metric.kinds == BOTH and not metric.measure]
WRITTEN = [metric for metric in MEASURED.values() if metric.kinds == GENERATION and not metric.measure]
JOINED = _beside(CORE) | _beside(ADDED)
JOINED_WRITTEN = _beside(WRITTEN)
JOINED_ASKED = _beside(ASKED)
JOINED_ALL = JOINED | JOINED_WRITTEN | JOINED_ASKED
SECONDS = ("seconds_victim", "seconds_defense", "seconds_evaluation")
COLUMNS = (
    "suite", "task", "model", "attack", "defense", "seed", "status", "error", *(metric.name for metric in CORE),
    *_beside(CORE), "implanted", "clean_size", "reserve_ratio", *SECONDS, "victim_key", "cell_key", "device",
    "version", *(metric.name for metric in ADDED), *_beside(ADDED), "date",
)  # fmt: skip
WRITTEN_COLUMNS = (*(metric.name for metric in WRITTEN), *JOINED_WRITTEN)  # where any model writes
FORMATS = ("parquet", "csv", "jsonl")
_INTEGER = "int64"
_PLAIN = re.compile(r'[^",\r\n]+')  # what needs no quotes in a csv file


def frame(rows: Iterable[Row], *, gate: Gate | None = None) -> DataFrame:
    """Return one row for each listed cell, joined with its victim and its floor.

    Args:
        rows: every cell of a suite, floors and ceilings included.
        gate: when an attack counts as implanted; the default gate where it is None.

    Returns:
        A DataFrame with ``COLUMNS`` first, with ``WRITTEN_COLUMNS`` behind them where any model writes, those of
        metrics that any suite asked to measure, then ``attack.<field>`` and ``defense.<field>``. Percentages are 0-100.
        ``implanted`` is <NA> for the clean reference and while the victim is not known. A task with several target
        labels has them in ``attack.target``. ``date`` is the day on which a record was made, in Greenwich, as
        YYYY-MM-DD; <NA> in records of a time that did not state it.
    """
    import pandas as pd

    rows = list(rows)
    shown = [row for row in rows if is_shown(row)]
    more = WRITTEN_COLUMNS if any(row.kind == Kind.GENERATION for row in rows) else ()
    names = (*COLUMNS, *more, *_asked_columns(rows))
    columns = _own(shown) | References.of(rows).columns(shown, gate or Gate(), names)
    parameters = _parameters(shown)
    return pd.DataFrame({**{name: columns[name] for name in names}, **parameters})


def _asked_columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns of the metrics that need a measure and of which any row has a number."""
    names = known_metrics(rows)
    known = [metric for metric in ASKED if metric.name in names]
    return (*(metric.name for metric in known), *_beside(known))


def known_metrics(rows: Iterable[Row]) -> frozenset[str]:
    """Return the names of the metrics of which any row has a number."""
    table = np.array([row.measured for row in rows if row.done]).reshape(-1, len(MEASURED))
    return frozenset(name for name, known in zip(MEASURED, ~np.isnan(table).all(axis=0), strict=True) if known)


def is_shown(row: Row) -> bool:
    """Whether a frame has a row for a cell."""
    return row.listed and row.role != "floor"


def _numbers(values: Iterable[float | None]) -> Series[float]:
    import pandas as pd

    return pd.Series(list(values), dtype="float64")


def _texts(values: Iterable[str | None]) -> Series[Any]:
    import pandas as pd

    return pd.Series(list(values), dtype="string")


def _own(rows: Sequence[Row]) -> dict[str, Series[Any]]:
    """Return the columns of what the cells' own records say."""
    import pandas as pd

    columns: dict[str, Series[Any]] = {
        name: _texts([getattr(row, name) for row in rows])
        for name in ("suite", "task", "model", "attack", "defense", "status", "error", "victim_key", "cell_key")
    }
    columns |= {name: pd.Series([getattr(row, name) for row in rows], dtype=_INTEGER if rows else object)
              for name in ("seed", "clean_size")}  # fmt: skip
    known = [row.percentages for row in rows]
    columns |= {name: _numbers([one[name] for one in known]) for name in MEASURED}
    seconds = [{} if row.record is None else row.record.seconds for row in rows]
    columns |= {f"seconds_{name}": _numbers([one.get(name) for one in seconds])
              for name in ("victim", "defense", "evaluation")}  # fmt: skip
    where = [row.environment for row in rows]
    columns |= {name: _texts([one.get(name) for one in where]) for name in ("device", "version", "date")}
    return columns | {"reserve_ratio": _numbers([row.notes.get("reserve_ratio") for row in rows])}


def _parameters(rows: Sequence[Row]) -> DataFrame:
    """Return the columns of the parameters of attacks and defenses, those of attacks first, each in order of names.

    They are the same in many cells. So each combination is looked at once: a column's type depends on which values it
    has, not on how many of each.
    """
    import pandas as pd

    codes: dict[tuple[Any, ...], int] = {}
    different: list[dict[str, Any]] = []
    places = []
    for row in rows:
        code = codes.setdefault((id(row.attack_parameters), id(row.defense_parameters), row.target), len(different))
        if code == len(different):
            target = {} if row.target is None else {"attack.target": row.target}
            attack = {f"attack.{name}": value for name, value in row.attack_parameters.items()}
            defense = {f"defense.{name}": value for name, value in row.defense_parameters.items()}
            different.append(target | attack | defense)
        places.append(code)
    table = pd.DataFrame(different, index=range(len(different)))
    names = sorted(table.columns, key=lambda name: (not name.startswith("attack."), name))
    typed = pd.DataFrame({name: _one_kind(table[name]) for name in names}, index=table.index)
    return typed.take(places).reset_index(drop=True)


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
            for column, (who, metric) in JOINED_ALL.items()
        }

    def _clean(self, row: Row) -> Row | None:
        floor = self.floors.get(row.victim_key)
        return floor if floor is not None and floor.done else self.clean.get((row.task, row.model, row.seed))

    def implanted(self, row: Row, gate: Gate) -> bool | None:
        """Return whether the victim of a cell passes the gate; None without a trigger, or while a number is missing."""
        clean = self._clean(row)
        return implanted(self.joined(row), gate, majority=None if clean is None else clean.metric(GUESS.name))

    def columns(self, rows: Iterable[Row], gate: Gate, names: Collection[str]) -> dict[str, Series[Any]]:
        """Return the columns of cells, among those named, that come from other records.

        Those of one victim have the same.
        """
        import pandas as pd

        of: dict[tuple[str, str, str, int], tuple[dict[str, float | None], bool | None]] = {}
        each = []
        for row in rows:
            victim = row.victim_key, row.task, row.model, row.seed
            if victim not in of:
                of[victim] = self.joined(row), self.implanted(row, gate)
            each.append(of[victim])
        joined = {name: _numbers([one[name] for one, _ in each]) for name in JOINED_ALL if name in names}
        return joined | {"implanted": pd.Series([implanted for _, implanted in each], dtype="boolean")}


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


def comma_separated(table: DataFrame) -> str:
    """Return what ``to_csv`` of :func:`without_formulas` of a frame returns, several times as fast.

    The values of most columns are few, and each is written once.
    """
    columns = [_written(table[name]) for name in table.columns]
    lines = [",".join(_fields(table.columns)), *map(",".join, zip(*columns, strict=True))]
    return "\n".join(lines) + "\n"


def _written(column: Series[Any]) -> list[str]:
    """Return the values of a column as fields of a csv file."""
    import pandas as pd

    known = column.to_numpy().view("int64") if column.dtype == "float64" else column  # so that -0.0 is not 0.0
    codes, _ = pd.factorize(known)
    first = pd.Series(range(len(codes))).groupby(codes).first()
    values = column.iloc[first[first.index >= 0]]
    if column.dtype.name in ("object", "string", "str"):
        texts = _fields(map(no_formula, values))
    else:
        texts = values.to_frame().to_csv(index=False, header=False, lineterminator="\n").split("\n")[:-1]
        texts = ["" if text == '""' else text for text in texts]  # alone in its line, nothing has quotes
    texts.append("")  # for the code -1: no value
    return [texts[code] for code in codes.tolist()]


def _fields(values: Iterable[Any]) -> list[str]:
    """Return values as fields of a csv file, each with quotes only where it needs them."""
    fields = []
    for value in values:
        if isinstance(value, str) and _PLAIN.fullmatch(value):
            fields.append(value)
            continue
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([value, ""])
        fields.append(line.getvalue().removesuffix(",\n"))
    return fields


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
        text.write(comma_separated(table))
    else:
        table.to_json(text, orient="records", lines=True, double_precision=15, force_ascii=False)
    if path is None:
        return text.getvalue()
    outputs.write(path, text.getvalue())
    return None
