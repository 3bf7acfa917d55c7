"""Everything about a suite in one folder, as results/ holds it: records, tables, figures, leaderboards, claims."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError
from bench.experiment import record_files
from bench.report.rows import beside
from bench.report.rows.mixtures import mixtures
from bench.report.rows.records import line_files, name_of, rows_of
from bench.report.rows.settings import disambiguate_tasks
from bench.store import outputs
from bench.suites import strict

if TYPE_CHECKING:
    from bench.report.rows.row import Row
    from bench.session import Session
    from bench.suites.suite import Gate

LEADERBOARD, CLAIMS, RESULTS = "leaderboard.json", "claims.json", "RESULTS.md"
EXAMPLES = beside.EXAMPLES
MADE = (".png", ".pdf", ".csv", ".json")  # what an earlier version may have left that this one does not write
TABLES = {"table.md": "md", "table.csv": "csv", "table.tex": "latex"}


def publish(opened: Session, folder: Path, *, mixed: bool = False) -> list[Path]:
    """Write the records of a suite and all that is made of them; return the files.

    ``records.jsonl.gz``, in the order of the suite, is the source of the other files: from it alone everything can be
    made again, without data, models or a store. ``RESULTS.md`` says what is seen; a README that says command, machine
    and time, without any number of the records, is written by people.

    Args:
        opened: the suite.
        folder: where; files of an earlier version are replaced.
        mixed: publish although a column mixes devices, library versions or trainings; every table then says so.

    Raises:
        RequestError: a column does, and ``mixed`` is not set.
    """
    with outputs.all_or_none():
        return _write(opened, folder, mixed=mixed)


def _write(opened: Session, folder: Path, *, mixed: bool) -> list[Path]:
    from bench import report

    rows, gate = opened.rows(), opened.plan.suite.gate
    if not mixed and (mixes := mixtures(rows)):
        more = f" (and {len(mixes) - 1} more)" if len(mixes) > 1 else ""
        raise RequestError(f"{mixes[0]}{more}. `--mixed` publishes it all the same, and every table says so.")
    if all(row.record is None for row in rows):
        raise RequestError(
            f"the store {opened.store.root} has no record of suite {opened.name}; run it, or name another --store."
        )
    outputs.make_folder(folder)
    earlier = _earlier(folder)
    written = [folder / "suite.yaml", folder / "records.jsonl.gz"]
    fields = opened.plan.suite.model_dump(mode="json", exclude_defaults=True, exclude={"profiles"})
    outputs.write(written[0], strict.dump(fields, width=110))
    outputs.write(written[1], packed(rows))
    for name, form in TABLES.items():
        written.append(folder / name)
        outputs.write(written[-1], report.table(rows, format=form, gate=gate, standalone=True))
    written.append(folder / RESULTS)
    published = [row.record.whole for row in rows if row.record is not None]
    alone = disambiguate_tasks(rows_of([(record, None) for record in published], suite=name_of(folder)))
    outputs.write(written[-1], results(alone, title=opened.plan.suite.name, gate=gate))
    for name, value in _judged(rows, gate):
        written.append(folder / name)
        outputs.write(written[-1], json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    still = {record.key: earlier[record.key][1] for record in published
             if record.key in earlier and earlier[record.key][0] == record.document()}  # fmt: skip
    if examples := {**still, **opened.examples(generated_only=True)}:
        written.append(folder / EXAMPLES)
        outputs.write(written[-1], json.dumps(examples, indent=1, ensure_ascii=False) + "\n")
    figures = folder / "figures"
    outputs.make_folder(figures)
    written += [*report.draw(rows, folder=figures, gate=gate), *opened.study(figures)]
    for path in (folder / EXAMPLES, *figures.iterdir()):
        if path not in written and path.suffix in MADE:
            outputs.remove(path)
    return written


def _earlier(folder: Path) -> dict[str, tuple[dict[str, Any], Any]]:
    """Return the records of an earlier version for which it has responses, with these, by key."""
    if not (examples := beside.examples(folder)):
        return {}
    entries = record_files.read(line_files(folder))
    known = [one.record for one in entries if isinstance(one, record_files.RecordFile)]
    return {record.key: (record.document(), examples[record.key]) for record in known if record.key in examples}


def packed(rows: Iterable[Row]) -> bytes:
    """Return the records of rows as ``records.jsonl.gz`` holds them."""
    documents = (row.record.document() for row in rows if row.record is not None)
    lines = "".join(json.dumps(document, sort_keys=True) + "\n" for document in documents)
    return gzip.compress(lines.encode(), mtime=0)


def results(rows: Sequence[Row], *, title: str, gate: Gate) -> str:
    """Return RESULTS.md: what the records of a suite say, in words. No sentence of it is written by hand."""
    from bench import report
    from bench.report.ranking import words

    parts = [
        f"# {title}",
        "Written by `doorbench publish` from the records in this folder; `table.md` has every number.",
    ]
    parts += [f"**{one}.**" for one in mixtures(rows)]
    for heading, sentences in words.sentences(rows, gate=gate):
        parts += [f"## {heading}", "\n".join(f"* {sentence}" for sentence in sentences)]
    verdicts = report.check_claims(rows, gate=gate)
    parts += [
        "## Claims of the paper",
        "\n".join(
            f"* **{one.outcome}**: {one.claim.statement} {one.reason[0].upper()}{one.reason[1:]}." for one in verdicts
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _judged(rows: Sequence[Row], gate: Gate) -> Iterator[tuple[str, Any]]:
    from bench import report
    from bench.report.ranking import standings, verdicts

    yield LEADERBOARD, standings.as_json(rows, gate=gate)
    yield CLAIMS, verdicts.as_json(report.check_claims(rows, gate=gate))
