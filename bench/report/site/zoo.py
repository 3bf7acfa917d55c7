"""The model zoo: every victim and every purified model behind the numbers, with its hash and how to make it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.experiment.metrics import ACCURACY, BACKDOOR, SUCCESS
from bench.experiment.roles import VICTIM
from bench.report.rows.row import Row
from bench.report.site.names import slug
from bench.report.site.views import record_token

METRICS = (ACCURACY, SUCCESS, BACKDOOR)


def victims(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the victims whose records are done, each once; clean models among them."""
    done = {row.victim_key: row for row in rows if row.done and row.role == VICTIM.role}
    return [_entry(row, row.victim_weights) for row in done.values()]


def purified(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the models that a defense left and whose hash their record names, each once."""
    done = {row.cell_key: row for row in rows if row.done and row.defended_weights}
    return [_entry(row, row.defended_weights) | {"page": slug(row.defense_base)} for row in done.values()]


def _entry(row: Row, weights: str | None) -> dict[str, Any]:
    return {
        "row": row,
        "weights": weights,
        "command": rebuild(row),
        "token": record_token(row),
        "metrics": [(metric, row.metric(metric.name)) for metric in METRICS],
        "attack_page": slug(row.attack_base),
        "task_page": slug(row.task),
    }


def rebuild(row: Row) -> str:
    """Return the one command that makes the model of a record again."""
    folder = "RECORDS" if row.path is None else _folder(row)
    return f"doorbench rebuild {shlex.quote(folder)} {row.cell_key[:12]}"


def _folder(row: Row) -> str:
    """Return the folder of a record as one names it in the repository: below ``results`` where it is there."""
    assert row.path is not None
    folder = row.path.parent if row.path.name.startswith("records.") else row.path.parents[1]
    parts: Sequence[str] = folder.parts
    return "/".join(parts[parts.index("results") :]) if "results" in parts else folder.name


def described(name: str, tasks: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """Return what a ``tasks.yaml`` says of a task, whatever stands in brackets behind its name."""
    return tasks.get(name) or tasks.get(name.partition(" [")[0]) or {}
