from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.errors import RequestError
from bench.report import export, frame
from bench.report.rows.frames import COLUMNS, implanted
from bench.report.rows.row import first_line
from bench.suites.suite import Gate
from tests.report.synthetic import changed, edited, make_rows, not_applicable


def test_columns_come_in_the_promised_order() -> None:
    table = frame(make_rows(seeds=(0,)))
    assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS
    rest = list(table.columns[len(COLUMNS) :])
    assert rest == ["attack.from", "attack.rate", "attack.target", "defense.reserve_ratio"]
    assert list(frame([]).columns) == list(COLUMNS)


def test_a_cell_is_joined_with_its_victim_and_its_floor() -> None:
    rows = make_rows(seeds=(0, 1))
    table = frame(rows).set_index("cell_key")
    for row in rows:
        if row.role != "defended" or row.attack == "clean":
            continue
        victim = next(r for r in rows if r.role == "victim" and r.victim_key == row.victim_key)
        floor = next(r for r in rows if r.role == "floor" and r.victim_key == row.victim_key)
        cell = table.loc[row.cell_key]
        assert (cell.victim_acc, cell.victim_asr) == (victim.metric("acc"), victim.metric("asr"))
        assert (cell.clean_acc, cell.clean_asr) == (floor.metric("acc"), floor.metric("asr"))


def test_each_cell_says_when_and_with_what_it_was_made(tmp_path: Path) -> None:
    rows = make_rows(seeds=(0,), tasks=("reviews",), attacks=("badword",), defenses=("mixing", "e-pur"))
    one = next(row for row in rows if row.defense == "mixing")
    dated = edited(one, environment={**one.environment, "version": "0.9", "date": "2026-11-05"})
    table = frame([dated if row is one else row for row in rows]).set_index("cell_key")
    assert table.loc[one.cell_key, ["version", "date"]].tolist() == ["0.9", "2026-11-05"]
    older = table.drop(one.cell_key)
    assert len(older) and older["date"].isna().all(), "records that do not state it"
    export(table, format="csv", path=tmp_path / "x.csv")
    assert "2026-11-05" in (tmp_path / "x.csv").read_text()


def test_the_clean_reference_has_no_asr_and_no_gate() -> None:
    table = frame(make_rows(seeds=(0,)))
    clean = table[table["attack"] == "clean"]
    assert clean["asr"].isna().all() and clean["clean_asr"].isna().all() and clean["implanted"].isna().all()
    assert clean["clean_acc"].notna().all()


def test_references_that_the_suite_does_not_list_are_not_exported() -> None:
    rows = make_rows(defenses=("fine-tuning",), seeds=(0,))
    table = frame(rows)
    assert set(table["defense"]) == {"fine-tuning"}
    assert table.loc[table["attack"] == "badword", "victim_asr"].notna().all()
    assert "clean model" not in set(frame(make_rows(seeds=(0,)))["defense"])


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ((90, 88, 90), True),
        ((90, 88, 89.9), False),
        ((90, 86.9, 100), False),
        ((90, 87, 100), True),
        ((None, 87, 100), None),
    ],
)
def test_the_gate(metrics: tuple[float | None, float, float], expected: bool | None) -> None:
    known = dict(zip(("clean_acc", "victim_acc", "victim_asr"), metrics, strict=True))
    assert implanted(known, Gate(), majority=50.0) is expected


def test_a_model_that_does_not_know_its_task_gates_no_attack() -> None:
    known = {"clean_acc": 52.5, "victim_acc": 52.0, "victim_asr": 100.0}
    assert implanted(known, Gate(), majority=50.0) is False and implanted(known, Gate(min_skill=0), majority=50.0)


def test_the_gate_can_be_set() -> None:
    rows = make_rows(seeds=(0,), victim=lambda task, attack, seed: (80.0, 85.0))
    assert not frame(rows)["implanted"].fillna(False).any()
    eased = frame(rows, gate=Gate(min_asr=80, max_acc_drop=20))
    assert eased.loc[eased["attack"] != "clean", "implanted"].all()


def test_every_status_is_a_row() -> None:
    rows = make_rows(seeds=(0,), tasks=("reviews",), attacks=("badword",))
    rows = changed(rows, lambda row: row.defense == "mixing", record=None, failure="out of memory")
    rows = changed(rows, lambda row: row.defense == "e-pur", record=None)
    rows = [not_applicable(row, "pairs only") if row.defense == "fine-pruning" else row for row in rows]
    table = frame(rows).set_index("defense")
    assert table.loc["mixing", ["status", "error"]].tolist() == ["failed", "out of memory"]
    assert table.loc["e-pur", "status"] == "waiting"
    assert table.loc["fine-pruning", ["status", "error"]].tolist() == ["n/a", "pairs only"]
    assert table.loc[["mixing", "e-pur", "fine-pruning"], "acc"].isna().all()
    assert table.loc["fine-tuning", "status"] == "done"


def test_a_record_outweighs_an_older_failure() -> None:
    row = replace(make_rows(seeds=(0,))[0], failure={"error": "first try"})
    assert row.status == "done"


def test_outcomes_are_the_metrics() -> None:
    for row in make_rows(seeds=(0,), tasks=("reviews",)):
        for metric, hits in row.outcomes.items():
            assert (hits is None) == (row.metric(metric) is None)
            if hits is not None:
                assert 100 * np.nanmean(hits) == pytest.approx(row.metric(metric))


def test_parameters_of_mixed_kinds_become_text_that_parquet_holds(tmp_path: Path) -> None:
    rows = make_rows(
        seeds=(0,), tasks=("reviews",), attacks=("badword",), defenses=("none", "fine-tuning", "e-pur", "mixing")
    )
    values = iter([["cf", "mn"], "cf", 3])
    rows = [row if row.role != "defended" else replace(row, defense_parameters={"words": next(values)}) for row in rows]
    table = frame(rows)
    assert table["defense.words"].dropna().tolist() == ['["cf", "mn"]', '"cf"', "3"]
    assert export(table, format="parquet", path=tmp_path / "x.parquet") is None
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "x.parquet"), table)


def test_text_formats_say_the_same() -> None:
    table = frame(make_rows(seeds=(0,)))
    text = export(table, format="csv")
    lines = (export(table, format="jsonl") or "").splitlines()
    assert text is not None and text.count("\n") == len(table) + 1 == len(lines) + 1
    first = json.loads(lines[0])
    assert list(first) == list(table.columns)
    assert first["asr"] is None and first["acc"] == table["acc"].iloc[0]


def test_export_writes_files_and_refuses_what_it_cannot(tmp_path: Path) -> None:
    table = frame(make_rows(seeds=(0,)))
    assert export(table, format="csv", path=tmp_path / "x.csv") is None
    assert len(pd.read_csv(tmp_path / "x.csv")) == len(table)
    with pytest.raises(RequestError, match="parquet is not text"):
        export(table, format="parquet")
    with pytest.raises(RequestError, match="Did you mean 'jsonl'"):
        export(table, format="json")


def test_the_telling_line_of_an_error() -> None:
    assert (
        first_line("Traceback (most recent call last):\n  File x\nRuntimeError: no space\n") == "RuntimeError: no space"
    )
    assert first_line("pairs only\nmore") == "pairs only"
    assert len(first_line("x" * 500)) == 160
    assert first_line(None) and first_line("")
