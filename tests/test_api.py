"""The functions for notebooks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bench
from bench import evaluate, load_attack, load_defense, load_task, records, run_suite
from bench.contracts import Budget
from bench.errors import RequestError

BUDGET = Budget(epochs=1, learning_rate=1e-3, precision="fp32")


def test_import_is_lazy() -> None:
    code = "import sys, bench; assert not {'torch', 'pandas', 'pydantic'} & set(sys.modules); bench.load_attack"
    code += "; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert set(bench.__all__) <= {*dir(bench), *bench.__all__}
    with pytest.raises(AttributeError):
        bench.nothing  # noqa: B018


def test_loaders_check_fields(world: Path) -> None:
    assert load_attack("badword", rate=0.25).spec == "badword(rate=0.25)"
    assert load_defense("e-pur+fine-tuning", steps=12).spec == "e-pur+fine-tuning(steps=12)"
    assert len(load_task("local/single", max_test=10).test) == 10
    with pytest.raises(RequestError, match="Did you mean 'rate'"):
        load_attack("badword", rat=0.25)


def test_evaluate_and_suites_share_the_store(world: Path, tmp_path: Path) -> None:
    common = {"labels": 32, "budget": BUDGET}
    model = str(world / "tiny-bert")
    outcome = evaluate(
        load_attack("badword"), "fine-tuning(steps=4)", task="local/single", model=model, store=tmp_path, device="cpu",
        **common,
    )  # fmt: skip
    assert outcome.defense == "fine-tuning(steps=4)"
    assert outcome.acc == outcome.record["metrics"]["acc"]
    assert outcome.clean_acc is not None and outcome.victim_asr is not None and outcome.implanted is not None
    suite = {
        "name": "api", "description": "tiny", "task": "local/single", "model": model, "attack": ["badword", "badsent"],
        "defense": ["none", "fine-tuning(steps=4)"], **common,
    }  # fmt: skip
    results = run_suite(suite, store=tmp_path, engine="serial", device="cpu")
    assert [one.attack for one in results] == ["badword", "badsent"]
    assert results[0].record == outcome.record
    table = records(suite, store=tmp_path)
    assert len(table) == 4
    assert set(table["status"]) == {"done"}


def test_failures_are_errors(world: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="asks for"):
        evaluate("badword(rate=0.9)", "e-pur", task="local/single", model=str(world / "tiny-bert"), store=tmp_path,
                 device="cpu", budget=BUDGET)  # fmt: skip
