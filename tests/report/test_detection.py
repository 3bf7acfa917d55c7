"""AUROC of detectors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from bench.report import detection
from bench.report.rows import Row

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


def row(attack: str, seed: int, score: float, **changes: object) -> Row:
    fields = {
        "suite": "s", "task": "t", "model": "m", "attack": attack, "attack_base": attack.partition("(")[0],
        "defense": "d", "seed": seed, "role": "detected", "victim_key": f"{attack}{seed}", "cell_key": "k",
        "clean_size": 0, "record": {"status": "done", "notes": {"suspicion": score}},
    }  # fmt: skip
    return Row(**{**fields, **changes})


@given(SCORES, SCORES)
def test_area_is_the_usual_one(clean: list[int], victims: list[int]) -> None:
    expected = roc_auc_score([0] * len(clean) + [1] * len(victims), clean + victims)
    assert detection.area(np.array(clean, float), np.array(victims, float)) == pytest.approx(expected)


def test_only_finished_detections_count() -> None:
    rows = [
        row("clean", 0, 1.0),
        row("badword", 0, 2.0),
        row("x", 0, 1.0, record=None),
        row("x", 0, 1.0, role="defended"),
    ]
    table = detection.suspicions(rows)
    assert table["attack"].tolist() == ["clean", "badword"]
    assert table["backdoored"].tolist() == [False, True]


def test_auroc_over_seeds_and_by_attack() -> None:
    rows = [row("clean", seed, 0.0 + seed) for seed in range(4)]
    rows += [row("strong", seed, 10.0) for seed in range(4)]
    rows += [row("weak", seed, 0.0 + seed) for seed in range(4)]
    table = detection.suspicions(rows)
    by = detection.auroc(table, by_attack=True).set_index("attack")
    assert by.loc["strong", ["auroc", "low", "high"]].tolist() == [100.0, 100.0, 100.0]
    assert by.loc["weak", "auroc"] == 50.0
    (line,) = detection.auroc(table).to_dict("records")
    assert line["auroc"] == 75.0 and line["victims"] == 8 and line["clean"] == 4 and line["seeds"] == 4
    assert line["low"] <= 75.0 <= line["high"]
    assert detection.auroc(table).equals(detection.auroc(table)), "the draws are seeded"


def test_an_attack_that_did_not_implant_does_not_count() -> None:
    def metrics(acc: float, asr: float | None) -> dict[str, object]:
        return {"status": "done", "metrics": {"acc": acc, "asr": asr}}

    rows = [row("clean", 0, 5.0), row("weak", 0, 9.0), row("strong", 0, 1.0)]
    for attack, asr in (("weak", 40.0), ("strong", 99.0)):
        rows.append(row(attack, 0, 0.0, role="victim", record=metrics(90.0, asr)))
        rows.append(row(attack, 0, 0.0, role="floor", record=metrics(90.0, 10.0)))
    table = detection.suspicions(rows)
    assert table["implanted"].tolist() == [pd.NA, False, True]
    (line,) = detection.auroc(table).to_dict("records")
    assert line["auroc"] == 0.0 and line["victims"] == 1


def test_one_seed_has_no_interval_and_no_clean_model_no_line() -> None:
    (line,) = detection.auroc(detection.suspicions([row("clean", 0, 0.0), row("a", 0, 1.0)])).to_dict("records")
    assert line["auroc"] == 100.0 and pd.isna(line["low"]) and pd.isna(line["high"])
    assert len(detection.auroc(detection.suspicions([row("a", 0, 1.0)]))) == 0
    assert len(detection.auroc(detection.suspicions([]))) == 0
