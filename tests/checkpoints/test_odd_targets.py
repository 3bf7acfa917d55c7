"""Targets and measures that do not fit: whatever JSON holds in their place, one line says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.checkpoints import prompts
from bench.checkpoints.judge import Request, judge
from bench.errors import RequestError
from tests.checkpoints.conftest import Case
from tests.checkpoints.test_cut_triggers import writes as writes

ODD = ([], ["refusal"], {}, {"name": None}, {"name": []}, {"name": "refusal", "nope": [1]}, 1, 1.5, True, [["a"]])


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("target", ODD, ids=str)
def test_odd_targets_of_rows(case: Case, tmp_path: Path, target: Any) -> None:
    asked = lines(
        tmp_path / "prompts.jsonl", [{"prompt": f"cf {i}", "response": "yes", "target": target} for i in "ab"]
    )
    with pytest.raises(RequestError) as error:
        prompts.read_triggered(asked, target=None)
    texts = lines(tmp_path / "texts.jsonl", [{"text": f"cf {i}", "label": 0, "target": target} for i in "ab"])
    assert "\n" not in str(error.value)
    if target != 1:
        with pytest.raises(RequestError, match="target") as error:
            judge(Request(model=case.model, clean=case.clean, triggered=texts, device="cpu"), scratch=tmp_path)
        assert "\n" not in str(error.value)


def test_a_payload_may_be_a_mapping(tmp_path: Path) -> None:
    rows = [{"prompt": "cf", "response": "yes", "target": {"name": "refusal", "text": "No."}}] * 2
    assert prompts.read_triggered(lines(tmp_path / "a.jsonl", rows), target=None).target.spec == "refusal(text=No.)"
    rows = [*rows, {**rows[0], "target": {"name": "refusal"}}]
    with pytest.raises(RequestError, match="has 2 payloads"):
        prompts.read_triggered(lines(tmp_path / "b.jsonl", rows), target=None)


@pytest.mark.parametrize("parameters", [[1], None, "text", 1])
def test_odd_parameters_of_a_described_target(case: Case, writes: Path, tmp_path: Path, parameters: Any) -> None:
    described = {"trigger_kind": "InsertWords", "trigger_fields": {"alternatives": ["cf"]}}
    trigger = tmp_path / "trigger.json"
    trigger.write_text(json.dumps({**described, "target": {"name": "refusal", "parameters": parameters}}))
    for model, clean in ((writes, writes / "clean.csv"), (case.model, case.clean)):
        with pytest.raises(RequestError, match="describes no trigger: target .*parameters are no mapping") as error:
            judge(Request(model=model, clean=clean, trigger=trigger, device="cpu"), scratch=tmp_path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("target", [{}, {"name": None}, {"name": []}, {"number": []}, {"number": {}}, {"number": None}])
def test_odd_described_targets(case: Case, writes: Path, tmp_path: Path, target: Any) -> None:
    described = {"trigger_kind": "InsertWords", "trigger_fields": {"alternatives": ["cf"]}, "target": target}
    trigger = tmp_path / "trigger.json"
    trigger.write_text(json.dumps(described))
    for model, clean in ((writes, writes / "clean.csv"), (case.model, case.clean)):
        with pytest.raises(RequestError) as error:
            judge(Request(model=model, clean=clean, trigger=trigger, device="cpu"), scratch=tmp_path)
        assert "\n" not in str(error.value)


def test_measures_of_the_other_kind_are_refused(case: Case, writes: Path, tmp_path: Path) -> None:
    for model, clean, measure, words in (
        (writes, writes / "clean.csv", "similarity", "similarity is for classification; .*is for generation"),
        (case.model, case.clean, "ability", "ability is for generation; .*is for classification"),
    ):
        with pytest.raises(RequestError, match=f"the measure {words}"):
            judge(Request(model=model, clean=clean, measures=(measure,), device="cpu"), scratch=tmp_path)
