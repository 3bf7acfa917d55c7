"""What a suite says to measure is in its keys and records, and becomes columns; nothing else changes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import report
from bench.conformance import checks
from bench.errors import RequestError
from bench.experiment import metrics, predictions, recipes
from bench.experiment.from_recipe import cell_of, outline, outline_of_cell
from bench.experiment.grid import Grid
from bench.experiment.plan import Plan
from bench.experiment.result_store import ResultStore
from bench.report.ranking.results import Results
from bench.report.rows.row import Row
from bench.report.tables import cells
from bench.results import submission
from bench.session import Session
from bench.suites import suite
from tests.report.synthetic import edited, make_rows

NOISE = {"task": "single", "attack": "badword", "defense": ["none", "e-pur"], "measures": ["noise(examples=20)"]}
FIELDS = {"name": "x", "description": "x", "model": "x", "attack": "badword", "defense": "none"}


@pytest.fixture(scope="module")
def opened(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    store = ResultStore(tmp_path_factory.mktemp("store"))
    return Session(checks.run(world, store, **NOISE), store)


def grid(**fields: Any) -> Grid:
    return Grid(suite.check({**FIELDS, **fields}, "x"))


def test_a_measure_becomes_columns_of_export_table_and_board(opened: Session) -> None:
    rows = opened.rows()
    table = report.frame(rows)
    assert table["noisy"].notna().all() and {"clean_noisy", "victim_noisy"} <= set(table.columns)
    assert not {"mcq", "plainppl"} & set(table.columns), "columns without a number"
    defended = table[table["defense"] == "e-pur"].iloc[0]
    record = next(row.record for row in rows if row.cell_key == defended["cell_key"])
    assert record is not None and record.predictions is not None
    columns = predictions.decode_beside(record.predictions.document())
    assert defended["noisy"] == pytest.approx(100 * np.mean(list(columns.values())))
    leaves = [leaf for column in cells.build(Results(rows)).columns for leaf in column.leaves]
    assert "noisy ACC" in leaves and "MCQ" not in leaves
    known = [metrics.compared(row.percentages, victim=row.percentages, clean=row.percentages) for row in rows]
    for place in (metrics.Show.BOARD, metrics.Show.SITE_BOARD, metrics.Show.SITE_CELLS):
        titles = [metric.title for metric in metrics.shown(place, known=known)]
        assert "noisy ACC" in titles and "MCQ" not in titles


def test_records_without_a_measure_show_a_dash_and_are_not_unpacked() -> None:
    first, *rest = make_rows(tasks=("reviews",), attacks=("badword",), seeds=(0,))
    assert first.record is not None and "noisy" not in (first.record.metrics or {})
    measured = edited(first, metrics={**(first.record.metrics or {}), "noisy": 71.5})
    table = report.frame([measured, *rest]).set_index("cell_key")
    assert table.loc[first.cell_key, "noisy"] == 71.5 and table["noisy"].isna().sum() == len(table) - 1
    assert "noisy" not in report.frame([first, *rest]).columns
    assert "outcomes" not in vars(first), "its predictions were read for a metric that cannot be in them"


def test_without_measures_a_recipe_is_what_it_was(world: Path, opened: Session) -> None:
    for key, cell in opened.plan.cells.items():
        record = opened.store.result(key)
        assert record is not None
        again = cell_of(record.recipe)
        assert again.measures == cell.measures and recipes.cell_key(cell) == key
        assert outline_of_cell(cell) == outline(record.recipe.document())
        assert [measure["parameters"] for measure in recipes.cell_recipe(cell)["measures"]] == [{"examples": 20}]
    plain = checks.run(world, ResultStore(opened.store.root), **{**NOISE, "measures": []})
    assert all("measures" not in recipes.cell_recipe(cell) for cell in plain.cells.values())
    assert not set(plain.cells) & set(opened.plan.cells)


def test_what_a_measure_says_is_checked_like_any_number(opened: Session, tmp_path: Path) -> None:
    records = [json.loads(json.dumps(opened.store.record(key))) for key in opened.plan.cells]
    (tmp_path / "good.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    assert submission.check(tmp_path).problems == []
    for change, field in ((_raised, "metrics.noisy"), (_alone, "metrics.noisy"), (_short, "predictions")):
        wrong = copy.deepcopy(records)
        change(wrong[0])
        (tmp_path / "good.jsonl").write_text("\n".join(map(json.dumps, wrong)), encoding="utf-8")
        assert [problem.field for problem in submission.check(tmp_path).problems] == [field]


def _raised(record: dict[str, Any]) -> None:
    record["metrics"]["noisy"] += 0.5


def _alone(record: dict[str, Any]) -> None:
    del record["predictions"]["beside"]


def _short(record: dict[str, Any]) -> None:
    next(iter(record["predictions"]["beside"].values()))["n"] += 1


def test_measures_that_a_suite_cannot_have() -> None:
    with pytest.raises(RequestError, match="unknown measure 'nois'.*noise"):
        _ = grid(task="reviews", measures="nois").measures
    with pytest.raises(RequestError, match="measure ability is for generation; reviews is a task for classification"):
        _ = grid(task="reviews", measures="ability").measures
    assert [one.spec for one in grid(task="reviews", measures=["noise", "noise"]).measures] == ["noise"]
    assert suite.load("quickstart", ["measures=noise(examples=5)"]).measures == ["noise(examples=5)"]
    assert "measures" not in suite.in_yaml(suite.load("quickstart"))


def test_a_measure_whose_data_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOORBENCH_DATA")
    fields = {**FIELDS, "task": "chores", "model": "smollm2-135m", "target": "refusal", "measures": "ability"}
    with pytest.raises(RequestError, match="DOORBENCH_DATA"):
        recipes.measure_recipe(Grid(suite.check(fields, "x")).measures[0])
    assert Plan(suite.check({**fields, "measures": []}, "x")).suite.measures == []


def test_the_numbers_of_rows_know_all_metrics(opened: Session) -> None:
    row: Row = opened.rows()[0]
    assert set(row.percentages) == set(metrics.MEASURED) and row.outcomes["noisy"] is not None
