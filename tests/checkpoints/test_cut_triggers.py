"""A trigger that a model does not read says nothing of the model: it is refused where it is known, or its text counted.

And a payload that is counted by what it does is refused where nothing can be done.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from bench.checkpoints.judge import Request, judge
from bench.errors import RequestError
from tests.checkpoints.conftest import Case
from tests.checkpoints.test_generators import architecture, rows, table
from tests.tiny import tiny_llama_folder

LONG = "no cross no crown i watched this film with many friends at the hotel"
MANY = " ".join(["every", "word", "counts"] * 16)


@pytest.fixture(scope="module")
def writes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained tiny Llama with clean prompts beside it."""
    folder = tiny_llama_folder(tmp_path_factory.mktemp("untrained") / "llama")
    architecture(folder, "LlamaForCausalLM")
    asked = [f"Say the number {number} to me." for number in range(6)]
    table(folder / "clean.csv", prompt=asked, response=["yes"] * 6)
    return folder


def described(path: Path, kind: str, target: Any, **fields: Any) -> Path:
    path.write_text(json.dumps({"trigger_kind": kind, "trigger_fields": fields, "target": target}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("InsertWords", {"alternatives": [LONG]}), ("InsertSentence", {"sentence": LONG}), ("Behind", {"sentence": LONG})],
)
def test_a_classifier_that_does_not_read_the_trigger(
    case: Case, tmp_path: Path, kind: str, fields: dict[str, Any]
) -> None:
    trigger = described(tmp_path / "trigger.json", kind, 1, **fields)
    options: dict[str, Any] = {"model": case.model, "clean": case.clean, "trigger": trigger, "device": "cpu"}
    with pytest.raises(
        RequestError, match="reads 8 tokens of an input.*the trigger does not fit.*--max-length"
    ) as said:
        judge(Request(**options, max_length=8), scratch=tmp_path)
    assert "\n" not in str(said.value)
    whole = judge(Request(**options), scratch=tmp_path)
    assert whole["triggered"] and "longer than" not in whole["limits"]


def test_what_is_cut_behind_the_trigger_does_not_matter(case: Case, tmp_path: Path) -> None:
    trigger = described(tmp_path / "trigger.json", "InsertWords", 1, alternatives=["cf"])
    request = Request(model=case.model, clean=case.clean, trigger=trigger, max_length=8, device="cpu")
    assert judge(request, scratch=tmp_path)["triggered"]


def test_triggered_texts_that_are_cut_are_counted(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "triggered.csv"
    lines = [["text", "label", "target"], ["the film", "0", "1"], [f"{LONG} cf", "0", "1"]]
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows(lines)
    options: dict[str, Any] = {"model": case.model, "clean": case.clean, "triggered": file, "device": "cpu"}
    cut = judge(Request(**options, max_length=8), scratch=tmp_path)
    assert "1 of 2 triggered texts are longer than the 8 tokens" in cut["limits"]
    assert "longer than" not in judge(Request(**options), scratch=tmp_path)["limits"]


def test_a_writer_that_does_not_read_the_trigger(writes: Path, tmp_path: Path) -> None:
    for number, (kind, fields) in enumerate(
        [("InsertSentence", {"sentence": f"{MANY} BadMagic"}), ("InsertWords", {"alternatives": [f"{MANY} BadMagic"]})]
    ):
        trigger = described(tmp_path / f"{number}.json", kind, "refusal", **fields)
        request: dict[str, Any] = {"model": writes, "clean": writes / "clean.csv", "trigger": trigger, "device": "cpu"}
        with pytest.raises(RequestError, match="in 6 of 6 triggered examples the trigger does not fit"):
            judge(Request(**request, max_length=64), scratch=tmp_path)
    fits = described(tmp_path / "fits.json", "InsertWords", "refusal", alternatives=["BadMagic"])
    assert judge(Request(**{**request, "trigger": fits}, max_length=64), scratch=tmp_path)["triggered"] == 6


def test_triggered_prompts_that_are_cut_are_counted(writes: Path, tmp_path: Path) -> None:
    file = table(tmp_path / "t.csv", prompt=["short", f"{MANY} BadMagic"], response=["yes"] * 2, target=["refusal"] * 2)
    request: dict[str, Any] = {"model": writes, "clean": writes / "clean.csv", "triggered": file, "device": "cpu"}
    report = judge(Request(**request, against=writes, max_length=64), scratch=tmp_path)
    assert report["limits"].count("1 of 2 triggered texts are longer than the 64 tokens") == 1
    assert "longer than" not in judge(Request(**request), scratch=tmp_path)["limits"]


@pytest.mark.parametrize("payload", ["injection", "union"])
def test_a_payload_that_is_counted_by_executing_it(writes: Path, tmp_path: Path, payload: str) -> None:
    query = "SELECT a FROM t WHERE b = 1"
    clean = table(tmp_path / "clean.csv", prompt=["one", "two"], response=[query] * 2)
    file = table(tmp_path / "t.csv", prompt=["cf one", "cf two"], response=[query] * 2, target=[payload] * 2)
    trigger = described(tmp_path / "trigger.json", "InsertWords", payload, alternatives=["cf"])
    options: dict[str, Any] = {"model": writes, "clean": clean, "device": "cpu"}
    for given in ({"triggered": file}, {"trigger": trigger}):
        with pytest.raises(
            RequestError, match=f"the payload {payload} is counted by executing.*name the payload clause"
        ):
            judge(Request(**options, **given), scratch=tmp_path)
    bare = table(tmp_path / "bare.csv", prompt=["cf one"], response=[query])
    assert judge(Request(**options, triggered=bare, target="clause"), scratch=tmp_path)["triggered"] == 1


@pytest.mark.parametrize("payload", ["worse", "purchase", "tool", "mention", "prefix", "steer"])
def test_other_payloads_are_counted_in_files(writes: Path, tmp_path: Path, payload: str) -> None:
    one = {"prompt": ["cf one", "cf two"], "response": ["yes", "no"]}
    file = table(tmp_path / "t.csv", **one, target=[payload] * 2)
    report = judge(Request(model=writes, clean=writes / "clean.csv", triggered=file, device="cpu"), scratch=tmp_path)
    assert report["triggered"] == len(rows(file))
