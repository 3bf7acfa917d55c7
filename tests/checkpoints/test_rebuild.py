"""The model behind a record is made again, bit by bit, and says so."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.checkpoints import kinds, rebuild
from bench.conformance import checks
from bench.errors import RequestError
from bench.experiment import recipes
from bench.experiment.result_store import ResultStore
from tests.tiny import tiny_bert_folder


@pytest.fixture(scope="module")
def published(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of a tiny suite, as results/ holds them."""
    store, folder = ResultStore(tmp_path_factory.mktemp("store")), tmp_path_factory.mktemp("records")
    checks.run(world, store, task="single", attack="badword", defense=["none", "fine-tuning(steps=4)"])
    lines = "\n".join(map(json.dumps, store.records()))
    (folder / "records.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return folder


def key_of(folder: Path, role: str, defense: str = "") -> str:
    lines = gzip.decompress((folder / "records.jsonl.gz").read_bytes()).decode().splitlines()
    each = [record for record in map(json.loads, lines) if record["status"] == "done"]
    return next(
        str(one["key"])
        for one in each
        if one["role"] == role and one["cell"]["attack"] != "clean" and one["cell"]["defense"].startswith(defense)
    )


@pytest.mark.parametrize(("role", "defense"), [("victim", ""), ("defended", "fine-tuning"), ("floor", "")])
def test_the_model_of_a_record_is_made_again(
    published: Path, world: Path, tmp_path: Path, role: str, defense: str
) -> None:
    key, out = key_of(published, role, defense), tmp_path / "model"
    made = rebuild.rebuild(published, key[:12], out=out, model=str(world / "tiny-bert"), device="cpu")
    assert made.same is (None if role == "floor" else True)
    assert all(stated == here for stated, here in made.metrics.values()) and made.metrics
    suspect = kinds.opened(out)
    assert bool(suspect.mark) is (role != "floor")
    assert json.loads((out / rebuild.REPORT).read_text())["record"] == key


@pytest.mark.parametrize("role", ["victim", "defended", "floor"])
def test_another_model_or_other_data_are_refused_before_training(
    published: Path, world: Path, tmp_path: Path, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "build_victim", lambda *_: pytest.fail("it trains"))
    key, other = key_of(published, role), tiny_bert_folder(tmp_path / "other", seed=1)
    with pytest.raises(RequestError, match="is not the one of the record: its weights hash to.*--model") as error:
        rebuild.rebuild(published, key, out=tmp_path / "a", model=str(other), device="cpu")
    assert "\n" not in str(error.value)
    load = recipes.task_of
    monkeypatch.setattr(recipes, "task_of", lambda source: replace(load(source), fingerprint="0" * 64))
    with pytest.raises(RequestError, match="the data of local/single are not those of the record") as error:
        rebuild.rebuild(published, key, out=tmp_path / "a", model=str(world / "tiny-bert"), device="cpu")
    assert "\n" not in str(error.value) and not (tmp_path / "a").exists()


def test_what_no_model_is_behind_is_refused(published: Path, world: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="0 records .* keys that start with 'nothing'"):
        rebuild.rebuild(published, "nothing", out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
