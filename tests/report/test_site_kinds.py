"""Models that classify and models that write: boards of their own, and what the writers said."""

from __future__ import annotations

import json
from pathlib import Path

from bench.analysis import responses
from bench.conformance import checks
from bench.contracts import Kind
from bench.experiment.result_store import ResultStore
from bench.report.rows import build as rows_of
from bench.report.rows.row import Row
from bench.report.site import Source, build
from bench.report.site.names import slug
from tests.report.synthetic import make_rows


def run(world: Path, folder: Path) -> tuple[list[Row], dict[str, list[dict[str, str]]]]:
    store = ResultStore(folder)
    plan = checks.run(world, store, task="chores", attack="badword", defense=["none", "fine-tuning(steps=4)"])
    records = {key: record for key in plan.cells if (record := store.result(key)) is not None}
    rows = list(rows_of.of_cells(plan.cells, suite="writers", records=records, failures={}))
    assert responses.by_cell(plan.cells, store, generated_only=True).keys() == {
        row.cell_key for row in rows if row.attack_base != "clean"
    }
    return rows, responses.by_cell(plan.cells, store)


def test_kinds_are_never_on_one_board_and_records_show_responses(world: Path, tmp_path: Path) -> None:
    written, examples = run(world, tmp_path / "store")
    assert {row.kind for row in written} == {Kind.GENERATION}
    classified = make_rows(tasks=("reviews",), attacks=("badword",), defenses=("none", "e-pur"), seeds=(0,))
    sources = [Source("a", classified), Source("b", written, examples=examples)]
    site = build(sources, folder=tmp_path / "site").parent
    first = (site / "index.html").read_text()
    assert first.index("Models that classify") < first.index("Models that write")
    defended = next(row for row in written if row.role == "defended" and row.attack_base != "clean")
    boards = {path.stem: path.read_text() for path in (site / "data").glob("board-*.js")}
    mixed = [name for name, text in boards.items() if "e-pur" in text and defended.task in text]
    assert len(boards) == 2 and not mixed
    page = (site / "defense" / f"{slug(defended.defense_base)}.html").read_text()
    assert "Generation, fine-tuned model received" in page
    records = "".join(path.read_text() for path in (site / "data" / "records").glob("*.js"))
    example = examples[defended.cell_key][0]
    assert example["prompt"] and example["triggered"] != example["prompt"]
    assert json.dumps(example["reference"])[1:-1] in records and '"said_triggered"' in records
