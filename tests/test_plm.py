"""Pre-trained models: where they come from, what is refused, and a head that depends on the seed only."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import plm
from bench.errors import RequestError
from tests.tiny import tiny_bert_folder, tiny_roberta_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert_folder(tmp_path_factory.mktemp("plm") / "tiny")


def test_embedded_is_the_official_minilm() -> None:
    model = plm.create("embedded")
    assert model.weight_hash == plm.EMBEDDED_SHA256
    assert model.config().hidden_size == 384
    made = model.classifier_model(classes=2, seed=0)
    assert sum(parameter.numel() for parameter in made.parameters()) > 22_000_000
    assert "sentence_transformers" not in sys.modules


@pytest.mark.parametrize("make", [tiny_bert_folder, tiny_roberta_folder])
def test_head_depends_on_the_seed_only(make: object, tmp_path: Path) -> None:
    model = plm.create(str(make(tmp_path / "model")))  # type: ignore[operator]
    heads = []
    for noise, seed in ((1, 0), (2, 0), (2, 5)):
        torch.manual_seed(noise)
        state = model.classifier_model(classes=3, seed=seed).state_dict()
        heads.append(torch.cat([tensor.flatten() for name, tensor in state.items() if name.startswith("classifier")]))
        before = model.encoder_weights(model.classifier_model(classes=3, seed=seed))
        assert all(torch.equal(state[name], tensor) for name, tensor in before.items())
        assert not any(name.startswith("classifier") for name in before)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_fingerprint_sees_weights_tokenizer_and_config(folder: Path, tmp_path: Path) -> None:
    base = plm.create(str(folder)).fingerprint()
    other = plm.create(str(tiny_bert_folder(tmp_path / "tiny", seed=1))).fingerprint()
    assert base["weights"] != other["weights"]
    assert base["tokenizer"] == other["tokenizer"]
    words = plm.create(str(tiny_bert_folder(tmp_path / "w" / "tiny", words=("zyzzyva",)))).fingerprint()
    assert words["tokenizer"] != base["tokenizer"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("bert-base-uncase", "Did you mean 'bert-base-uncased'"),
        ("some/model", "40"),
        ("/no/such/folder", "no folder"),
        ("", "not the name"),
        ("x\0y", "not the name"),
        ("x" * 300, "unknown model"),
    ],
)
def test_unknown_models(spec: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as error:
        plm.create(spec)
    assert "\n" not in str(error.value)


def test_pickled_weights_are_refused_and_never_read(folder: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    bad = Path(shutil.copytree(folder, tmp_path / "bad"))
    (bad / "model.safetensors").unlink()
    (bad / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(RequestError, match="safetensors"):
        plm.create(str(bad)).classifier_model(classes=2, seed=0)
    with pytest.raises(RequestError, match="safetensors"):
        plm.create(str(bad)).fingerprint()
    assert not (tmp_path / "executed").exists()


def test_code_of_a_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    bad = Path(shutil.copytree(folder, tmp_path / "bad"))
    config = json.loads((bad / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Evil"}
    (bad / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError):
        plm.create(str(bad)).classifier_model(classes=2, seed=0)


def test_a_model_without_its_counterpart_is_refused(folder: Path, tmp_path: Path) -> None:
    suspect = plm.create(str(folder))
    plm.check_counterpart(suspect, plm.create(str(tiny_bert_folder(tmp_path / "same", seed=3))))
    with pytest.raises(RequestError, match="shape"):
        plm.check_counterpart(suspect, plm.create(str(tiny_bert_folder(tmp_path / "wide", hidden_size=48))))
    with pytest.raises(RequestError):
        plm.check_counterpart(suspect, plm.create(str(tiny_roberta_folder(tmp_path / "roberta"))))


def test_a_missing_hub_model_says_how_to_get_it(tmp_path: Path) -> None:
    code = "from bench import plm; from bench.errors import RequestError\n"
    code += "try: plm.create('bert-base-uncased').folder()\nexcept RequestError as error: print(error)"
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "google-bert/bert-base-uncased" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_hub_model_is_read_from_the_cache_layout(folder: Path, tmp_path: Path) -> None:
    revision = plm.PINNED["bert-base-uncased"][1]
    repo = tmp_path / "hub" / "models--google-bert--bert-base-uncased"
    shutil.copytree(folder, repo / "snapshots" / revision)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(revision)
    code = "from bench import plm; m = plm.create('bert-base-uncased');"
    code += "print(m.weight_hash); m.classifier_model(classes=2, seed=0); m.tokenizer()"
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == plm.create(str(folder)).weight_hash
