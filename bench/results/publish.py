"""Everything about a suite in one folder, as results/ holds it: records, tables, figures, leaderboards, claims."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bench.store import outputs

if TYPE_CHECKING:
    from bench.report.rows.row import Row
    from bench.session import Session
    from bench.suites.suite import Gate

LEADERBOARD, CLAIMS = "leaderboard.json", "claims.json"
TABLES = {"table.md": "md", "table.csv": "csv", "table.tex": "latex"}


def publish(opened: Session, folder: Path) -> list[Path]:
    """Write the records of a suite and all that is made of them; return the files.

    ``records.jsonl.gz``, in the order of the suite, is the source of the other files: from it alone everything can be
    made again, without data, models or a store. A README that says command, machine and time, and what is seen, is
    written by people.
    """
    with outputs.all_or_none():
        return _write(opened, folder)


def _write(opened: Session, folder: Path) -> list[Path]:
    from bench import report

    outputs.make_folder(folder)
    written = [folder / "suite.yaml", folder / "records.jsonl.gz"]
    fields = opened.plan.suite.model_dump(mode="json", exclude_defaults=True, exclude={"profiles"})
    outputs.write(written[0], yaml.safe_dump(fields, sort_keys=False, width=110))
    rows, gate = opened.rows(), opened.plan.suite.gate
    records = [row.record.document() for row in rows if row.record is not None]
    lines = "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)
    outputs.write(written[1], gzip.compress(lines.encode(), mtime=0))
    for name, form in TABLES.items():
        written.append(folder / name)
        outputs.write(written[-1], report.table(rows, format=form, gate=gate, standalone=True))
    for name, value in _judged(rows, gate):
        written.append(folder / name)
        outputs.write(written[-1], json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    figures = folder / "figures"
    outputs.make_folder(figures)
    return [*written, *report.draw(rows, folder=figures, gate=gate), *opened.study(figures)]


def _judged(rows: Sequence[Row], gate: Gate) -> Iterator[tuple[str, Any]]:
    from bench import report
    from bench.report.ranking import standings, verdicts

    yield LEADERBOARD, standings.as_json(rows, gate=gate)
    yield CLAIMS, verdicts.as_json(report.check_claims(rows, gate=gate))
