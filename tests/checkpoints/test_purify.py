"""Purify: what it writes, what it refuses, and how much memory it takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.checkpoints import clean, drift, recommend, words
from bench.checkpoints.purify import CARD, REPORT, Request, purify
from bench.contracts import Needs
from bench.errors import RequestError
from bench.models import tensors
from tests.checkpoints.conftest import Case, write_csv
from tests.cli.test_cli import doorbench
from tests.tiny import tiny_bert_folder


def request(case: Case, out: Path, **changes: Any) -> Request:
    fields = {"model": case.model, "pretrained": case.pretrained, "clean": case.clean, "out": out, "device": "cpu"}
    return Request(**{**fields, "defense": "e-pur+fine-mixing(reserve_ratio=0.5, steps=4)", **changes})


def test_result_loads_and_its_report_is_right(case: Case, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    out = tmp_path / "deep" / "purified"
    report = purify(request(case, out))
    model = AutoModelForSequenceClassification.from_pretrained(out)
    data = clean.read(case.clean, ["0", "1"])
    tokenizer = AutoTokenizer.from_pretrained(out)
    batch = tokenizer(
        list(data.selection.inputs.texts), padding=True, truncation=True, max_length=128, return_tensors="pt"
    )
    with torch.no_grad():
        answers = model(**batch).logits.argmax(-1).numpy()
    after = report["accuracy"]["after"]
    assert after["value"] == pytest.approx(100 * float((answers == data.selection.labels).mean()))
    assert after["low"] <= after["value"] <= after["high"]
    old, new = load_file(case.model / "model.safetensors"), load_file(out / "model.safetensors")
    assert set(old) == set(new)
    assert report["changed"]["scalars"] == sum(int((old[name] != new[name]).sum()) for name in old)
    assert json.loads((out / REPORT).read_text(encoding="utf-8")) == json.loads(json.dumps(report))
    card = (out / CARD).read_text(encoding="utf-8")
    assert "does not say that the model is clean" in card
    assert report["words"][0]["text"] in card.replace("\\", "")
    assert ("not removed" in card) == bool(report["still_there"])
    assert "of" in card and all(word["flips"] or word["flips_left"] is None for word in report["words"])
    assert {path.name for path in out.parent.iterdir()} == {"purified"}


def test_it_says_which_words_still_turn_most_answers() -> None:
    """One that turns half of them does not, and one that is no word of its own cannot be tried."""
    suspicious = [words.Word(token, token, row, 1.0, 9.0, 1.0) for row, token in enumerate(("cf", "mn", "wry", "##x"))]
    flips = [words.Flips("1", 9, 10), words.Flips("1", 10, 10), words.Flips("1", 5, 10), None]
    assert words.still_there(suspicious, flips).startswith("cf, mn each still turn most of the answers.")
    assert words.still_there(suspicious[1:], flips[1:]).startswith("mn still turns most")
    assert words.still_there(suspicious[2:], flips[2:]) == ""


def test_it_says_when_it_fails_its_tolerance(case: Case, tmp_path: Path) -> None:
    wrecked = (
        "--defense",
        "mixing(reserve_ratio=0)",
        "--out",
        str(tmp_path / "wrecked"),
    )  # nothing of the model is left
    options = (
        "--model",
        str(case.model),
        "--pretrained",
        case.pretrained,
        "--clean",
        str(case.clean),
        "--device",
        "cpu",
    )
    done = doorbench("purify", *options, *wrecked)
    report = json.loads((tmp_path / "wrecked" / REPORT).read_text(encoding="utf-8"))
    lost = report["accuracy"]["before"]["value"] - report["accuracy"]["after"]["value"]
    assert lost > 2 and report["accuracy"]["kept"] is False
    warning = f"accuracy fell by {lost:.1f} points, more than the tolerance of 2"
    assert done.returncode == 1 and warning in done.stderr, done.stderr
    assert warning in (tmp_path / "wrecked" / CARD).read_text(encoding="utf-8")
    assert "flips" in (tmp_path / "wrecked" / CARD).read_text(encoding="utf-8")
    easy = doorbench("purify", *options, *wrecked[:3], str(tmp_path / "easy"), "--tolerance", "100")
    assert easy.returncode == 0, easy.stderr


def test_one_copy_in_memory_gives_the_same_model(case: Case, tmp_path: Path) -> None:
    defense = "e-pur+fine-mixing(steps=8)"
    purify(request(case, tmp_path / "ample", lean=False, defense=defense))
    purify(request(case, tmp_path / "lean", lean=True, defense=defense))
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("ample", "lean"))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-6, atol=1e-8)
    assert {path.name for path in tmp_path.iterdir()} == {"ample", "lean"}


def test_shards_and_half_precision_stay(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForSequenceClassification

    from bench.checkpoints import folder

    model = AutoModelForSequenceClassification.from_pretrained(case.model, dtype=torch.bfloat16)
    shutil.copytree(case.model, tmp_path / "sharded")
    (tmp_path / "sharded" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    monkeypatch.setattr(folder, "SHARD", 40_000)
    purify(request(case, tmp_path / "out", model=tmp_path / "sharded", defense="mixing(reserve_ratio=0.5)"))
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    reloaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", dtype="auto")
    assert {parameter.dtype for parameter in reloaded.parameters()} == {torch.bfloat16}


def _pickled(model: Path) -> None:
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


def _code(model: Path) -> None:
    settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**settings, "auto_map": {"AutoModel": "x.Y"}}), encoding="utf-8")


def _headless(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    save_file({n: w for n, w in weights.items() if not n.startswith("classifier")}, model / "model.safetensors")


def _regression(model: Path) -> None:
    settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**settings, "problem_type": "regression"}), encoding="utf-8")


def _weights(change: Callable[[str, torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        file = model / "model.safetensors"
        save_file({name: change(name, weight).contiguous() for name, weight in load_file(file).items()}, file)

    return spoil


def _settings(**fields: Any) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
        (model / "config.json").write_text(json.dumps({**settings, **fields}), encoding="utf-8")

    return spoil


def _short(model: Path) -> None:
    raw = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(raw[: len(raw) // 2])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(_pickled, "pickled"), (_code, "auto_map"), (_headless, "classifier"), (_regression, "regression"),
     (_short, "safetensors"),
     (_weights(lambda name, weight: 1e30 * weight), "what it answers is not"),
     (_weights(lambda name, weight: weight.to(torch.int8)), "whole numbers"),
     (_settings(num_hidden_layers=1), "layer.1.*of a layer that its configuration does not have"),
     (_settings(id2label={"0": "good", "1": "good"}, label2id=None), "calls two labels 'good'")],
)  # fmt: skip
def test_refuses_models(case: Case, tmp_path: Path, spoil: Any, words: str) -> None:
    shutil.copytree(case.model, tmp_path / "model")
    spoil(tmp_path / "model")
    with pytest.raises(RequestError, match=words):
        purify(request(case, tmp_path / "out", model=tmp_path / "model"))
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_refuses_another_counterpart(case: Case, tmp_path: Path) -> None:
    wider = tiny_bert_folder(tmp_path / "wider", hidden_size=48)
    with pytest.raises(RequestError, match="is not the pre-trained counterpart.*of shape"):
        purify(request(case, tmp_path / "out", pretrained=str(wider)))
    words = tiny_bert_folder(tmp_path / "words", words=("another",))
    with pytest.raises(RequestError, match="is not the pre-trained counterpart"):
        purify(request(case, tmp_path / "out", pretrained=str(words)))


def test_refuses_a_counterpart_of_another_training_and_the_model_itself(case: Case, tmp_path: Path) -> None:
    torch.manual_seed(7)
    shutil.copytree(case.pretrained, tmp_path / "other")
    weights = load_file(tmp_path / "other" / "model.safetensors")
    drawn = {name: torch.randn_like(value) * value.std(correction=0) for name, value in weights.items()}
    save_file(drawn, tmp_path / "other" / "model.safetensors")
    with pytest.raises(RequestError, match=r"is not the pre-trained counterpart.*differ by 1\d\d %"):
        purify(request(case, tmp_path / "out", pretrained=str(tmp_path / "other")))
    with pytest.raises(RequestError, match="no weight differs: it is the same model"):
        purify(request(case, tmp_path / "out", pretrained=str(case.model)))
    assert not (tmp_path / "out").exists()


def test_one_part_may_be_far_away() -> None:
    def parts(*relative: float) -> list[drift.Part]:
        return [drift.Part(f"layer {i}", share, share, 0.0) for i, share in enumerate(relative)]

    assert drift.stranger(parts(1, 2, 300)) is None
    assert "differ by 120 %" in (drift.stranger(parts(1, 120, 130)) or "")


def test_refuses_clean_data_and_an_existing_folder(case: Case, tmp_path: Path) -> None:
    bad = {
        "unlabelled": write_csv(tmp_path / "a.csv", ["x", "y"], [0, 1], column="other"),
        "every example has the label '1'": write_csv(tmp_path / "b.csv", ["x", "y"], [1, 1]),
        "the label is missing": write_csv(tmp_path / "c.csv", ["x", "y"], [1, ""]),
        "out of range": write_csv(tmp_path / "d.csv", ["x", "y"], [0, 2]),
        "cannot be cut": write_csv(tmp_path / "e.csv", ["x", "y", "z"], [0, 1, 1]),
    }
    for message, path in bad.items():
        with pytest.raises(RequestError, match=message):
            purify(request(case, tmp_path / "out", clean=path, tuning=3))
    (tmp_path / "there").mkdir()
    with pytest.raises(RequestError, match="exists already"):
        purify(request(case, tmp_path / "there"))
    assert not list((tmp_path / "there").iterdir())


def test_clean_data_is_cut_in_disjoint_parts_and_takes_names(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(100)]
    path = write_csv(tmp_path / "clean.csv", texts, ["good" if i % 2 else "bad" for i in range(100)])
    data = clean.read(path, ("bad", "good"))
    assert (len(data.tuning), len(data.selection)) == (50, 50)
    assert not set(data.tuning.inputs.texts) & set(data.selection.inputs.texts)
    assert data.tuning.labels.sum() == 25
    assert all(
        label == int(text.split()[1]) % 2
        for text, label in zip(data.tuning.inputs.texts, data.tuning.labels, strict=True)
    )


RESULTS = Path(__file__).parents[2] / "results" / "paper-minilm" / "paper-single"
BOARD = {
    "board": "fine-tuned model received",
    "rows": [
        {"defense": "fine-tuning", "rank": 3.0, "der": 71.0, "flip": 60.0, "needs": ["clean"]},
        {
            "defense": "fine-mixing",
            "rank": 1.5,
            "der": 88.0,
            "asr": 43.6,
            "flip": 12.5,
            "needs": ["clean", "pretrained"],
        },
        {"defense": "not-here", "rank": 1.0, "needs": ["clean"], "extra": "ignored"},
    ],
}


def test_auto_takes_the_best_that_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    path.write_text(json.dumps(BOARD), encoding="utf-8")
    both = recommend.choose("auto", {Needs.CLEAN, Needs.PRETRAINED}, board=path)
    assert both.defense.spec == "fine-mixing"
    assert "leaves an ASR of 43.6 % and a flip rate of 12.5 %" in both.why and "not-here" in both.why
    assert "the board in board.json" in both.why and str(tmp_path) not in both.why
    by_default = recommend.choose("auto", {Needs.CLEAN, Needs.PRETRAINED}).why
    assert str(recommend.COMMITTED.parent) not in by_default and "the committed board of paper-single" in by_default
    less = recommend.choose("auto", {Needs.CLEAN}, board=path)
    assert less.defense.spec == "fine-tuning"
    assert "needs pretrained: give --pretrained" in less.why


def test_committed_board_is_the_published_one() -> None:
    published = RESULTS / "leaderboard.json"
    assert recommend.COMMITTED.read_bytes() == published.read_bytes()
    assert recommend.read_board(recommend.COMMITTED).rows


def test_auto_recommends_nothing_that_hardly_helps(tmp_path: Path) -> None:
    rows = [{"defense": "fine-tuning", "rank": 1.0, "der": 51.2, "needs": ["clean"]}]
    path = tmp_path / "board.json"
    path.write_text(json.dumps({"board": "fine-tuned model received", "rows": rows}), encoding="utf-8")
    with pytest.raises(RequestError, match="fine-tuning has a DER of 51, and doing nothing 50"):
        recommend.choose("auto", {Needs.CLEAN}, board=path)


def test_a_file_may_hold_several_boards(tmp_path: Path) -> None:
    path = tmp_path / "boards.json"
    path.write_text(json.dumps([{"board": "test-time filter", "rows": []}, BOARD]), encoding="utf-8")
    assert len(recommend.read_board(path).rows) == 3


def test_needs_are_checked_before_anything_is_loaded(case: Case, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="needs pretrained: give --pretrained"):
        purify(request(case, tmp_path / "out", pretrained=None))


def test_tensors_are_those_of_the_library(case: Case, tmp_path: Path) -> None:
    places = tensors.places(case.model / "model.safetensors")
    wanted = load_file(case.model / "model.safetensors")
    assert set(places) == set(wanted)
    assert all(torch.equal(places[name].read(), wanted[name]) for name in wanted)
    odd = {"empty": torch.zeros(0, 3), "scalar": torch.tensor(2.5), "half": torch.arange(5, dtype=torch.bfloat16)}
    tensors.write(tmp_path / "x", {n: (tuple(t.shape), t.dtype, lambda t=t: t) for n, t in odd.items()})
    back = load_file(tmp_path / "x")
    assert all(torch.equal(back[name], odd[name]) for name in odd)


def test_optimiser_on_disk_steps_as_adamw(tmp_path: Path) -> None:
    from torch import nn

    from bench.checkpoints.lean import LeanAdamW

    def trained(lean: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        layer = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))
        weights = list(layer.parameters())
        names = (tmp_path / f"{lean}{i}" for i in range(3))
        options = {"learning_rate": 0.1, "weight_decay": 0.01, "max_grad_norm": 0.5}
        plain = torch.optim.AdamW(weights, lr=0.1, weight_decay=0.01, fused=True)
        optimiser = LeanAdamW(weights, file=lambda kind: next(names), **options) if lean else plain
        for step in range(6):
            for part in range(2):
                generator = torch.Generator().manual_seed(10 * step + part)
                layer(torch.randn(4, 7, generator=generator)).square().sum().backward()
            if not lean:
                nn.utils.clip_grad_norm_(weights, 0.5)
            optimiser.step()
            optimiser.zero_grad()
        return weights

    for one, other in zip(trained(True), trained(False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


def test_memory_stays_under_twice_the_model(tmp_path: Path) -> None:
    """In a process of its own: what purifying adds to a bare process with the same libraries loaded."""
    from transformers import BertForSequenceClassification

    size = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 16384}
    pretrained = tiny_bert_folder(tmp_path / "pre", **size)
    model = BertForSequenceClassification.from_pretrained(pretrained, num_labels=2)
    for weight in model.parameters():
        weight.data *= 1.01
    model.save_pretrained(tmp_path / "model")
    for path in pretrained.glob("*token*"):
        shutil.copy(path, tmp_path / "model")
    del model
    write_csv(tmp_path / "clean.csv", [f"a {'good' if i % 2 else 'bad'} film {i}" for i in range(24)], [0, 1] * 12)
    measured = """
import sys
from pathlib import Path
from bench.checkpoints import purify, words
from bench.checkpoints.lean import peak_bytes
from tests import few_words
import torch, transformers, wordfreq
few_words.install()
purify.TOP, words.ORDINARY = 2, 1  # each word takes the memory of the one before
from transformers import BertForSequenceClassification
wordfreq.word_frequency("word", "en")
torch.nn.Linear(8, 8)(torch.zeros(2, 8)).sum().backward()
before = peak_bytes()
here = Path(sys.argv[1])
purify.purify(purify.Request(model=here / "model", clean=here / "clean.csv", pretrained=str(here / "pre"), device="cpu",
    out=here / "out", defense="e-pur+fine-mixing(reserve_ratio=0.3, steps=4)", lean=True, max_length=16))
print(peak_bytes() - before)
"""
    done = subprocess.run([sys.executable, "-c", measured, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model = sum(path.stat().st_size for path in (tmp_path / "model").glob("*.safetensors"))
    assert model > 60e6
    assert int(done.stdout.split()[-1]) < 2 * model


def test_same_request_same_weights(case: Case, tmp_path: Path) -> None:
    for name in ("one", "two"):
        purify(request(case, tmp_path / name))
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(np.array_equal(one[name], two[name]) for name in one)
