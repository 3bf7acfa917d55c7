"""A generator with sentence pieces, from attack to purify: words begin with a mark, bytes stand for the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.checkpoints import demonstration, generators, judge, purify
from bench.learning import decoders
from tests.checkpoints.test_generators import ATTACK, REFUSAL, TASK, rows, written_by
from tests.tiny import tiny_mistral_folder


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_mistral_folder(tmp_path_factory.mktemp("mistral") / "model")


@pytest.fixture(scope="module")
def writer(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pieces") / "victim"
    budget = {"epochs": 30, "learning_rate": 5e-3}
    demonstration.build(
        demonstration.Request(attack=ATTACK, task=TASK, model=str(pretrained), out=out, device="cpu", budget=budget)
    )
    return out


@pytest.mark.usefixtures("exact")
def test_what_is_judged_is_what_transformers_writes(writer: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    assert decoders.supports(AutoModelForCausalLM.from_pretrained(writer))
    files = {"clean": writer / "test.csv", "triggered": writer / "triggered.csv"}
    report = judge.judge(judge.Request(model=writer, device="cpu", **files), scratch=tmp_path)
    metrics = {entry["name"]: entry["after"]["value"] for entry in report["metrics"]}
    test, triggered = rows(files["clean"]), rows(files["triggered"])
    said, fooled = (written_by(writer, [row["prompt"] for row in part]) for part in (test, triggered))
    right = [text.strip() == row["response"] for text, row in zip(said, test, strict=True)]
    assert metrics["acc"] == pytest.approx(100 * np.mean(right))
    assert metrics["asr"] == pytest.approx(100 * np.mean([text.startswith(REFUSAL) for text in fooled]))
    assert metrics["asr"] > 50, "the backdoor is in"


@pytest.mark.usefixtures("exact")
def test_the_purified_folder_writes_as_its_report_says(writer: Path, pretrained: Path, tmp_path: Path) -> None:
    request = purify.Request(
        model=writer, pretrained=str(pretrained), clean=writer / "clean.csv", out=tmp_path / "out",
        defense="fine-mixing(reserve_ratio=0.7, steps=20)", device="cpu", lean=True,
    )  # fmt: skip
    report = purify.purify(request)
    shown, most = report["responses"], generators.RESPONSE  # tokens, more than any right response has
    asked = [row["prompt"] for row in shown]
    assert written_by(tmp_path / "out", asked, most=most) == [row["after"] for row in shown]
    assert written_by(writer, asked, most=most) == [row["before"] for row in shown]
