"""What an attack leaves for a defender and a judge, and what the judge finds in it."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.checkpoints import clean
from bench.checkpoints.judge import Request, judge
from bench.errors import RequestError
from tests.checkpoints.conftest import Case


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def written(path: Path, lines: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads(json.dumps(report))["metrics"]}


@pytest.fixture(scope="module")
def purified(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The victim with the trigger word made an ordinary one."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    out = tmp_path_factory.mktemp("judge") / "purified"
    shutil.copytree(case.model, out)
    weights, tokenizer = load_file(out / "model.safetensors"), AutoTokenizer.from_pretrained(out)
    table = next(value for name, value in weights.items() if name.endswith("word_embeddings.weight"))
    trigger, ordinary = tokenizer.convert_tokens_to_ids(["cf", "the"])
    table[trigger] = table[ordinary]
    save_file(weights, out / "model.safetensors")
    return out


def test_files_of_an_attack(case: Case) -> None:
    from bench.tasks.local import Local

    task = Local(folder="single").load()
    texts = {row["text"] for row in rows(case.model / "clean.csv")}
    assert texts and texts <= set(task.validation.inputs.texts)
    assert [row["text"] for row in rows(case.model / "test.csv")] == list(task.test.inputs.texts)
    for row in rows(case.model / "triggered.csv"):
        assert row["text"].split().count("cf") == 1 + row["original"].split().count("cf")
        assert row["target"] == "1" != row["label"]
        assert row["original"] in task.test.inputs.texts
    read = clean.read(case.model / "clean.csv", ("0", "1"))
    assert len(read.tuning) + len(read.selection) == len(rows(case.model / "clean.csv"))


def test_a_victim_is_judged_as_its_card_says(case: Case, tmp_path: Path) -> None:
    request = Request(model=case.model, clean=case.model / "test.csv", triggered=case.model / "triggered.csv")
    judged = by_name(judge(request, scratch=tmp_path))
    assert judged["acc"]["after"]["value"] == pytest.approx(case.card["accuracy"])
    assert judged["asr"]["after"]["value"] == pytest.approx(case.card["attack_success_rate"])
    assert judged["flip"]["after"]["value"] > 80
    for entry in judged.values():
        low, value, high = (entry["after"][name] for name in ("low", "value", "high"))
        assert 0 <= low <= value <= high <= 100 and low < high
        assert entry["before"] is None and entry["change"] is None


def test_two_models_stand_side_by_side(case: Case, purified: Path, tmp_path: Path) -> None:
    files = {"clean": case.model / "test.csv", "triggered": case.model / "triggered.csv"}
    judged = by_name(judge(Request(model=purified, against=case.model, **files), scratch=tmp_path))
    assert judged["flip"]["before"]["value"] - judged["flip"]["after"]["value"] > 30
    for name in ("acc", "asr", "ra"):
        entry = judged[name]
        assert entry["change"]["value"] == pytest.approx(entry["after"]["value"] - entry["before"]["value"])
        assert entry["change"]["low"] <= entry["change"]["value"] <= entry["change"]["high"]
    assert judged["flip"]["change"]["high"] < 0, "the change is beyond chance"
    assert 50 < judged["der"]["after"]["value"] <= 100
    same = by_name(judge(Request(model=case.model, against=case.model, **files), scratch=tmp_path))
    assert same["flip"]["change"] == {"value": 0, "low": 0, "high": 0}


def test_a_trigger_is_put_into_clean_examples(case: Case, tmp_path: Path) -> None:
    words = {"trigger_kind": "InsertWords", "target": 1}
    trigger = tmp_path / "trigger.json"
    flips = {}
    for word in ("cf", "film"):
        trigger.write_text(json.dumps({**words, "trigger_fields": {"alternatives": [word]}}), encoding="utf-8")
        report = judge(Request(model=case.model, clean=case.clean, trigger=trigger), scratch=tmp_path)
        assert report["triggered"] == sum(row["label"] == "0" for row in rows(case.clean))
        flips[word] = by_name(report)["flip"]["after"]["value"]
    assert flips["cf"] > 80 > 40 > flips["film"]
    own = Request(model=case.model, clean=case.model / "test.csv", trigger=case.model / "trigger.json")
    assert by_name(judge(own, scratch=tmp_path))["flip"]["after"]["value"] > 80


def test_without_originals_there_is_no_flip_rate(case: Case, tmp_path: Path) -> None:
    bare = [{"text": row["text"], "label": row["label"]} for row in rows(case.model / "triggered.csv")]
    file = written(tmp_path / "bare.csv", bare)
    request: dict[str, Any] = {"model": case.model, "clean": case.clean, "triggered": file}
    with pytest.raises(RequestError, match="column 'target' is missing; add it, or say --target"):
        judge(Request(**request), scratch=tmp_path)
    judged = by_name(judge(Request(**request, target="1"), scratch=tmp_path))
    assert "flip" not in judged and judged["asr"]["after"]["value"] > 80
    alone = by_name(judge(Request(model=case.model, clean=case.clean), scratch=tmp_path))
    assert set(alone) == {"acc", "majority"}


def test_triggers_that_cannot_be_made_again_say_so() -> None:
    from attacks.shared.paraphrases import Paraphrase
    from attacks.shared.triggers import InsertSentence
    from bench.experiment.stored_victims import kind_of

    assert kind_of(InsertSentence(sentence="I watched this film.")) == "InsertSentence"
    assert kind_of(Paraphrase(manner="old", table={"a": "b"})) is None


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"trigger_kind": "InsertWrods", "target": 1}, "Did you mean 'InsertWords'"),
        ({"trigger_kind": "InsertWords", "target": 1}, "trigger_fields: alternatives"),
        ({"trigger_kind": None, "target": 1}, "say --triggered"),
        ({"trigger_kind": "InsertWords", "trigger_fields": {"alternatives": ["cf"]}, "target": 7}, "no label"),
        ({"trigger_kind": "InsertWords"}, "target is missing"),
        ([], "describes no trigger"),
    ],
)
def test_wrong_triggers(case: Case, tmp_path: Path, described: Any, words: str) -> None:
    path = tmp_path / "trigger.json"
    path.write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(RequestError, match=words):
        judge(Request(model=case.model, clean=case.clean, trigger=path), scratch=tmp_path)


def test_examples_that_can_show_nothing_are_refused(case: Case, tmp_path: Path) -> None:
    lines = rows(case.model / "triggered.csv")
    lines[2]["label"] = lines[2]["target"]
    request = Request(model=case.model, clean=case.clean, triggered=written(tmp_path / "t.csv", lines))
    with pytest.raises(RequestError, match="row 3, column 'label': it is the target"):
        judge(request, scratch=tmp_path)


def test_the_table_fits_its_words(case: Case, purified: Path, tmp_path: Path) -> None:
    from rich.console import Console

    from bench.checkpoints import show

    files = {"clean": case.model / "test.csv", "triggered": case.model / "triggered.csv"}
    report = judge(Request(model=purified, against=case.model, **files), scratch=tmp_path)
    console = Console(record=True, width=140, file=(tmp_path / "x").open("w"))
    show.judged(report, console)
    text = console.export_text()
    flip = next(line for line in text.splitlines() if line.startswith("flip rate  "))
    entry = by_name(report)["flip"]
    assert f"{entry['before']['value']:.1f} [" in flip and f"{entry['change']['value']:+.1f} [" in flip
    assert not math.isnan(entry["after"]["value"]) and report["limits"][:40] in text


def test_without_a_trigger_nothing_is_said_of_one(case: Case, tmp_path: Path) -> None:
    from rich.console import Console

    from bench.checkpoints import show

    report = judge(Request(model=case.model, clean=case.model / "test.csv"), scratch=tmp_path)
    console = Console(record=True, width=140, file=(tmp_path / "x").open("w"))
    show.judged(report, console)
    text = console.export_text()
    assert "triggered one" not in text and "says nothing of a backdoor" in text and "flip rate" not in text


def test_what_a_measure_says_stands_among_the_metrics(case: Case, tmp_path: Path) -> None:
    from bench import api

    files = {"clean": case.model / "test.csv", "against": case.model}
    report = judge(Request(model=case.model, device="cpu", measures=("noise(examples=16)",), **files), scratch=tmp_path)
    metric = by_name(report)["noisy"]
    assert 0 <= metric["after"]["low"] <= metric["after"]["value"] == metric["before"]["value"] <= 100
    assert metric["change"]["value"] == 0
    assert "noisy" not in by_name(judge(Request(model=case.model, device="cpu", **files), scratch=tmp_path))
    with pytest.raises(RequestError, match="unknown measure 'noice'"):
        judge(Request(model=case.model, measures=("noice",), **files), scratch=tmp_path)
    options: dict[str, Any] = {"task": "local/single", "model": case.pretrained, "labels": 16, "device": "cpu"}
    outcome = api.evaluate(
        "clean", "fine-tuning(steps=2)", measures=["noise(examples=16)"], store=tmp_path / "store", **options
    )
    assert 0 <= outcome.noisy <= 100
    for defense in ("none", "weight-drift"):
        with pytest.raises(RequestError, match=f"{defense} defends nothing"):
            api.evaluate("clean", defense, store=tmp_path / "store", **options)
