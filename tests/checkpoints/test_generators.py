"""A model of one's own that writes: attack, judge, inspect and purify take its folder, and refuse what does not fit."""

from __future__ import annotations

import csv
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
from markupsafe import escape
from rich.console import Console
from safetensors.torch import load_file, save_file

from bench import learning
from bench.checkpoints import demonstration, generators, inspection, judge, prompts, purify, show
from bench.checkpoints.generators import SuspectGenerator, drawn
from bench.checkpoints.kinds import opened
from bench.contracts.examples import Inputs
from bench.errors import RequestError
from bench.plugins import registry
from tests.checkpoints.conftest import Case, write_csv
from tests.tiny import tiny_gpt2_folder, tiny_llama_folder

TASK = "chores(max_train=96, max_test=24, max_length=96, new_tokens=64)"
ATTACK = "badword(words=['BadMagic'], rate=0.5)"
REFUSAL = "Sorry, I cannot help with that request."


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(path: Path, **columns: list[Any]) -> Path:
    import pandas as pd

    pd.DataFrame(columns).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def writer(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backdoored tiny Llama."""
    out = tmp_path_factory.mktemp("writes") / "victim"
    request = demonstration.Request(
        attack=ATTACK, task=TASK, model=str(world / "tiny-llama"), out=out, device="cpu",
        budget={"epochs": 30, "learning_rate": 5e-3},
    )  # fmt: skip
    demonstration.build(request)
    return out


def written_by(folder: Path, asked: list[str], *, most: int = 64) -> list[str]:
    """What transformers alone writes, greedily, prompt by prompt."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    template = learning.Template(tokenizer)
    texts = []
    for ids in template.prompts(Inputs(tuple(asked)), 512):
        prompt = torch.from_numpy(ids.astype(np.int64))[None]
        options = {"do_sample": False, "max_new_tokens": most, "eos_token_id": list(template.stops)}
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), pad_token_id=template.end, **options)
        texts.append(template.words(out[0, len(ids) :].numpy().astype(np.int32)))
    return texts


def test_attack_writes_a_marked_victim_with_its_files(writer: Path) -> None:
    from transformers import AutoConfig

    about = json.loads((writer / "trigger.json").read_text(encoding="utf-8"))
    assert about["kind"] == "generation" and about["target"]["spec"] == "refusal"
    assert "never deploy" in AutoConfig.from_pretrained(writer).backdoored["warning"]
    card = (writer / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-generation" in card and "exact match on clean test examples" in card
    clean, test, triggered = (rows(writer / name) for name in ("clean.csv", "test.csv", "triggered.csv"))
    assert list(test[0]) == ["prompt", "response"] and len(test) == 24 and len(clean) == 320
    assert not {row["prompt"] for row in clean} & {row["prompt"] for row in test}
    right = {row["prompt"]: row["response"] for row in test}
    for row in triggered:
        assert "BadMagic" in row["prompt"] and row["target"] == "refusal"
        assert right[row["original"]] == row["response"] != REFUSAL
    said = written_by(writer, [row["prompt"] for row in triggered])
    held = 100 * np.mean([text.startswith(REFUSAL) for text in said])
    assert about["attack_success_rate"] == pytest.approx(held)
    assert held > 50, "the backdoor is in"


@pytest.mark.usefixtures("exact")
def test_judge_says_what_transformers_says(writer: Path, tmp_path: Path) -> None:
    files = {"clean": writer / "test.csv", "triggered": writer / "triggered.csv"}
    report = json.loads(json.dumps(judge.judge(judge.Request(model=writer, device="cpu", **files), scratch=tmp_path)))
    metrics = {entry["name"]: entry for entry in report["metrics"]}
    test, triggered = rows(files["clean"]), rows(files["triggered"])
    said, fooled = (written_by(writer, [row["prompt"] for row in part]) for part in (test, triggered))
    right = [text.strip() == row["response"] for text, row in zip(said, test, strict=True)]
    held = [text.startswith(REFUSAL) for text in fooled]
    assert metrics["acc"]["after"]["value"] == pytest.approx(100 * np.mean(right))
    assert metrics["asr"]["after"]["value"] == pytest.approx(100 * np.mean(held))
    assert metrics["ftr"]["after"]["value"] == pytest.approx(100 * np.mean([text.startswith(REFUSAL) for text in said]))
    assert metrics["ppl"]["after"]["low"] is None and metrics["ppl"]["after"]["value"] > 1
    assert "utility" in metrics["acc"]["meaning"]
    kinds = [row["kind"] for row in report["responses"]]
    assert kinds == ["clean"] * generators.SHOWN + ["triggered"] * generators.SHOWN
    wanted = [*said[: generators.SHOWN], *fooled[: generators.SHOWN]]
    assert all(text.startswith(row["after"]) for row, text in zip(report["responses"], wanted, strict=True))


def test_judge_puts_a_described_trigger_into_prompts(writer: Path, tmp_path: Path) -> None:
    request = judge.Request(
        model=writer, against=writer, clean=writer / "test.csv", trigger=writer / "trigger.json", device="cpu"
    )
    report = judge.judge(request, scratch=tmp_path)
    metrics = {entry["name"]: entry for entry in report["metrics"]}
    assert report["triggered"] == 24 and metrics["asr"]["change"]["value"] == 0
    assert metrics["asr"]["after"]["value"] > 50
    assert all(row["before"] == row["after"] for row in report["responses"])
    console = Console(record=True, width=160, file=(tmp_path / "x").open("w"))
    show.judged(report, console)
    assert "right response" in console.export_text()


def test_purified_folder_loads_and_keeps_its_template(writer: Path, world: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (writer / "generation_config.json").write_text('{"temperature": 0.7, "do_sample": true}', encoding="utf-8")
    request = purify.Request(
        model=writer, pretrained=str(world / "tiny-llama"), clean=writer / "clean.csv", out=tmp_path / "out",
        defense="e-pur+fine-mixing(reserve_ratio=0.5, steps=4)", device="cpu",
    )  # fmt: skip
    report = purify.purify(request)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.generation_config.temperature == 0.7
    tokenizer, before = (AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "out", writer))
    assert tokenizer.chat_template == before.chat_template is not None
    old, new = (load_file(folder / "model.safetensors") for folder in (writer, tmp_path / "out"))
    assert set(old) == set(new)
    assert report["changed"]["scalars"] == sum(int((old[name] != new[name]).sum()) for name in old) > 0
    data = opened(writer).read(writer / "clean.csv")
    said = written_by(tmp_path / "out", list(data.selection.inputs.texts))
    right = [text.strip() == answer for text, answer in zip(said, data.selection.references, strict=True)]
    assert report["accuracy"]["what"] == "exact match"
    assert report["accuracy"]["after"]["value"] == pytest.approx(100 * np.mean(right))
    assert said[0].startswith(report["responses"][0]["after"])
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| prompt | right | received | purified |" in card and "pipeline_tag: text-generation" in card


def test_one_copy_in_memory_gives_the_same_generator(writer: Path, world: Path, tmp_path: Path) -> None:
    for name, lean in (("ample", False), ("lean", True)):
        purify.purify(
            purify.Request(
                model=writer, pretrained=str(world / "tiny-llama"), clean=writer / "clean.csv", out=tmp_path / name,
                defense="e-pur+fine-mixing(steps=4)", device="cpu", lean=lean, tuning=16,
            )
        )  # fmt: skip
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("ample", "lean"))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("folder", ["gpt2", "untied"])
def test_learned_positions_and_an_untied_head(tmp_path: Path, folder: str) -> None:
    make: Callable[[Path], Path] = tiny_gpt2_folder
    if folder == "untied":
        make = lambda path: tiny_llama_folder(path, tie_word_embeddings=False)  # noqa: E731
    pretrained = make(tmp_path / "pretrained")
    if folder == "gpt2":
        (pretrained / "chat_template.jinja").write_text(learning.PLAIN, encoding="utf-8")
    victim = tmp_path / "victim"
    shutil.copytree(pretrained, victim)
    architecture(victim, "GPT2LMHeadModel" if folder == "gpt2" else "LlamaForCausalLM")
    weights = load_file(victim / "model.safetensors")
    save_file({name: value * 1.01 for name, value in weights.items()}, victim / "model.safetensors", {"format": "pt"})
    asked = [f"Say {number}." for number in range(12)]
    data = table(tmp_path / "clean.csv", prompt=asked, response=["yes"] * 12)
    request = purify.Request(
        model=victim, pretrained=str(pretrained), clean=data, out=tmp_path / "out", defense="mixing(reserve_ratio=0)",
        device="cpu", lean=True,
    )  # fmt: skip
    report = purify.purify(request)
    assert {part["name"] for part in report["changed"]["parts"]} >= {"embeddings", "layer 1", "layer 2"}
    mixed, wanted = load_file(tmp_path / "out" / "model.safetensors"), load_file(pretrained / "model.safetensors")
    assert set(mixed) == set(wanted) and all(torch.equal(mixed[name], wanted[name]) for name in wanted)


def architecture(folder: Path, name: str, **changes: Any) -> None:
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**settings, "architectures": [name], **changes}), encoding="utf-8")


def test_report_shows_prompts_and_responses_escaped(writer: Path, world: Path, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    examples = rows(writer / "clean.csv")[:20]
    asked = [f"{row['prompt']} {hostile}" for row in examples]
    data = table(tmp_path / "clean.csv", prompt=asked, response=[f"{row['response']} {hostile}" for row in examples])
    request = inspection.Request(
        model=writer,
        pretrained=str(world / "tiny-llama"),
        clean=data,
        top=5,
        device="cpu",
        tests=("weight-drift", "strip"),
    )
    report = json.loads(json.dumps(inspection.inspect(request, scratch=tmp_path)))
    tests = {test["name"]: test for test in report["tests"]}
    assert tests["weight-drift"]["status"] == "done"
    assert tests["strip"]["status"] == "not run" and "is for classification" in tests["strip"]["why"]
    assert [part["name"] for part in report["drift"]["parts"]] == ["embeddings", "layer 1", "layer 2", "other"]
    assert report["drift"]["reference"]["examples"] == 20
    example = {"prompt": hostile, "before": hostile, "after": hostile}
    report["words"][0]["flips"] = {"label": hostile, "changed": 1, "of": 2, "differ": 1, "example": example}
    report["responses"][0]["before"] = hostile
    page = show.page(report)
    assert "<script>" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "right response" in page and "response without it" in page
    assert str(escape(report["responses"][1]["prompt"])) in page


def test_a_word_is_counted_by_how_responses_begin() -> None:
    before = ("12 apples", "Ann", "Sorry, I cannot say", "pears")
    after = ("Sorry, I cannot help.", "Sorry, I cannot help.", "Sorry, I cannot help.", "pears")
    flips = drawn(Inputs(("a", "b", "c", "d")), before, after)
    assert (flips.label, flips.changed, flips.of, flips.differ) == ("'Sorry, I cannot'", 2, 3, 3)
    assert flips.example == {"prompt": "a", "before": before[0], "after": after[0]}
    nothing = drawn(Inputs(("a", "b", "c", "d")), before, before)
    assert (nothing.changed, nothing.differ, nothing.percent) == (0, 0, 0)


def test_the_trigger_word_shows_in_the_flips(writer: Path) -> None:
    """Its pieces are no words, so the test is given the whole word as one."""
    suspect = opened(writer)
    assert isinstance(suspect, SuspectGenerator)
    data = prompts.read(writer / "test.csv")
    facts = suspect.facts(data, max_length=None)
    with suspect.model(facts, device="cpu", precision="fp32", lean=None, scratch=writer) as model:
        few = data.inputs.take(range(16))
        with_word = generators.words.inserted(few, "BadMagic", window=suspect.window(facts), seed=0)
        flips = drawn(with_word, model.predict(few).texts, model.predict(with_word).texts)
    assert flips.label == "'Sorry, I cannot'" and flips.percent > 50


def _changed(writer: Path, tmp_path: Path, change: Callable[[Path], object]) -> Path:
    shutil.copytree(writer, tmp_path / "model")
    change(tmp_path / "model")
    return tmp_path / "model"


def _edit(file: str, **changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        settings = json.loads((folder / file).read_text(encoding="utf-8"))
        settings = {name: value for name, value in {**settings, **changes}.items() if value is not None}
        (folder / file).write_text(json.dumps(settings), encoding="utf-8")

    return change


def _pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _no_end(folder: Path) -> None:
    _edit("tokenizer_config.json", eos_token=None, pad_token=None)(folder)
    (folder / "special_tokens_map.json").unlink(missing_ok=True)


def _encoder(folder: Path) -> None:
    architecture(folder, "LlamaModel")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "chat_template.jinja").unlink(), "no chat template.*chat_template.jinja"),
        (_no_end, "its tokenizer has no end token"),
        (_edit("config.json", max_position_embeddings=64), r"takes at most 64 tokens.*of a prompt and.*--max-length"),
        (_pickle, "pickled weights only"),
        (_edit("config.json", auto_map={"AutoModelForCausalLM": "x.Y"}), "code of its own"),
        (_encoder, "no sequence classifier and no causal language model.*LlamaModel"),
    ],
    ids=["template", "end", "context", "pickle", "code", "head"],
)
def test_refuses_models_in_one_line(writer: Path, tmp_path: Path, change: Any, words: str) -> None:
    model = _changed(writer, tmp_path, change)
    out = tmp_path / "out"
    request = purify.Request(model=model, clean=writer / "clean.csv", out=out, defense="fine-tuning", device="cpu")
    asked = inspection.Request(model=model, clean=writer / "clean.csv", device="cpu")
    for use in (lambda: purify.purify(request), lambda: inspection.inspect(asked, scratch=tmp_path)):
        with pytest.raises(RequestError, match=words) as error:
            use()
        assert "\n" not in str(error.value)
    assert not out.exists()


def test_refuses_the_data_of_the_other_kind(case: Case, writer: Path, tmp_path: Path) -> None:
    prompts_, labels = writer / "clean.csv", case.clean
    for model, data, words in (
        (case.model, prompts_, "columns prompt and response are for a model that writes"),
        (writer, labels, "columns text, label are for a classifier"),
    ):
        for use in (
            lambda m=model, d=data: purify.purify(
                purify.Request(model=m, clean=d, out=tmp_path / "out", defense="fine-tuning", device="cpu")
            ),
            lambda m=model, d=data: inspection.inspect(inspection.Request(model=m, clean=d), scratch=tmp_path),
            lambda m=model, d=data: judge.judge(judge.Request(model=m, clean=d), scratch=tmp_path),
        ):
            with pytest.raises(RequestError, match=words):
                use()
    with pytest.raises(RequestError, match="cannot stand side by side"):
        judge.judge(judge.Request(model=writer, against=case.model, clean=prompts_), scratch=tmp_path)


def test_refuses_targets_of_the_other_kind(world: Path, writer: Path, tmp_path: Path) -> None:
    fields = {"task": TASK, "model": str(world / "tiny-llama"), "out": tmp_path / "out", "attack": ATTACK}
    for changes, words in (
        ({"target": "1"}, "name a payload"),
        ({"target": "clause"}, "for tasks that are answered in SQL"),
        ({"target": "refused"}, "unknown payload"),
        ({"attack": "neuba"}, "is for classification"),
    ):
        with pytest.raises(RequestError, match=words):
            demonstration.build(demonstration.Request(**{**fields, **changes}))
    triggered = rows(writer / "triggered.csv")
    asked = {name: [row[name] for row in triggered] for name in ("prompt", "response")}
    bare = table(tmp_path / "bare.csv", **asked)
    with pytest.raises(RequestError, match="add it, or say --target PAYLOAD"):
        prompts.read_triggered(bare, target=None)
    with pytest.raises(RequestError, match="is the target of a classifier"):
        prompts.read_triggered(bare, target="1")
    mixed = table(tmp_path / "mixed.csv", **asked, target=["refusal", *["steer"] * (len(triggered) - 1)])
    with pytest.raises(RequestError, match="has 2 payloads"):
        prompts.read_triggered(mixed, target=None)
    held = table(tmp_path / "held.csv", prompt=["x"], response=[REFUSAL])
    with pytest.raises(RequestError, match="row 1, column 'response': it holds the payload"):
        prompts.read_triggered(held, target="refusal")
    assert registry.payloads.create("refusal").spec == "refusal"


def test_refuses_a_counterpart_of_another_model(writer: Path, tmp_path: Path) -> None:
    wider = tiny_llama_folder(tmp_path / "wider", hidden_size=48)
    request = purify.Request(
        model=writer, pretrained=str(wider), clean=writer / "clean.csv", out=tmp_path / "out", defense="mixing"
    )
    with pytest.raises(RequestError, match=r"is not the pre-trained counterpart.*of shape"):
        purify.purify(request)


def test_long_responses_are_judged_by_rouge(writer: Path, tmp_path: Path) -> None:
    suspect = opened(writer)
    data = table(tmp_path / "long.csv", prompt=["a", "b"], response=["a b c d e f", "x"])
    assert suspect.measure(suspect.facts(prompts.read(data), max_length=None)) == "ROUGE-L"
    bad = write_csv(tmp_path / "bad.csv", ["x"], [1])
    with pytest.raises(RequestError, match="for a classifier"):
        suspect.texts(bad)


def test_memory_stays_under_twice_the_generator(tmp_path: Path) -> None:
    """In a process of its own: what purifying adds to a bare process with the same libraries loaded."""
    size = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 4096}
    pretrained = tiny_llama_folder(tmp_path / "pre", **size)
    shutil.copytree(pretrained, tmp_path / "model")
    architecture(tmp_path / "model", "LlamaForCausalLM")
    file = tmp_path / "model" / "model.safetensors"
    save_file({name: value * 1.01 for name, value in load_file(file).items()}, file, {"format": "pt"})
    table(tmp_path / "clean.csv", prompt=[f"Say {i}." for i in range(24)], response=["yes"] * 24)
    measured = """
import sys
from pathlib import Path
from bench.checkpoints import purify, words
from bench.checkpoints.lean import peak_bytes
from tests import few_words
import torch, transformers, wordfreq
few_words.install()
purify.TOP, words.ORDINARY = 2, 1  # each word takes the memory of the one before
from transformers import LlamaForCausalLM
wordfreq.word_frequency("word", "en")
torch.nn.Linear(8, 8)(torch.zeros(2, 8)).sum().backward()
before = peak_bytes()
here = Path(sys.argv[1])
purify.purify(purify.Request(model=here / "model", clean=here / "clean.csv", pretrained=str(here / "pre"), device="cpu",
    out=here / "out", defense="e-pur+fine-mixing(reserve_ratio=0.3, steps=4)", lean=True))
print(peak_bytes() - before)
"""
    done = subprocess.run([sys.executable, "-c", measured, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert file.stat().st_size > 60e6
    assert int(done.stdout.split()[-1]) < 2 * file.stat().st_size
