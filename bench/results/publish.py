"""Everything about a suite in one folder, as results/ holds it: records, tables, figures, leaderboards, claims."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

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
    from bench import report

    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "suite.yaml", folder / "records.jsonl.gz"]
    fields = opened.plan.suite.model_dump(mode="json", exclude_defaults=True, exclude={"profiles"})
    written[0].write_text(yaml.safe_dump(fields, sort_keys=False, width=110), encoding="utf-8")
    rows, gate = opened.rows(), opened.plan.suite.gate
    written[1].write_bytes(packed(rows))
    for name, form in TABLES.items():
        written.append(folder / name)
        written[-1].write_text(report.table(rows, format=form, gate=gate, standalone=True), encoding="utf-8")
    for name, value in _judged(rows, gate):
        written.append(folder / name)
        written[-1].write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    return [*written, *report.draw(rows, folder=figures, gate=gate), *opened.study(figures)]


def packed(rows: Iterable[Row]) -> bytes:
    """Return the records of rows as ``records.jsonl.gz`` holds them."""
    documents = (row.record.document() for row in rows if row.record is not None)
    lines = "".join(json.dumps(document, sort_keys=True) + "\n" for document in documents)
    return gzip.compress(lines.encode(), mtime=0)


def _judged(rows: Sequence[Row], gate: Gate) -> Iterator[tuple[str, Any]]:
    from bench import report
    from bench.report.ranking import standings, verdicts

    yield LEADERBOARD, standings.as_json(rows, gate=gate)
    yield CLAIMS, verdicts.as_json(report.check_claims(rows, gate=gate))
