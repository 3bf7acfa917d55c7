"""What a message tells to do works: shorter prompts, shorter responses, a head written out, a merged adapter."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.checkpoints import demonstration, purify
from bench.checkpoints.judge import Request, judge
from bench.errors import RequestError
from tests.checkpoints.test_cut_triggers import writes as writes
from tests.checkpoints.test_generators import architecture, table
from tests.tiny import tiny_llama_folder


@pytest.mark.parametrize("max_length", [None, 100])
def test_a_response_that_is_too_long_is_no_matter_of_the_prompt(
    writes: Path, tmp_path: Path, max_length: int | None
) -> None:
    data = table(tmp_path / "clean.csv", prompt=["one"], response=["word " * 600])
    with pytest.raises(RequestError, match="of a response are wanted; leave out the longest responses") as error:
        judge(Request(model=writes, clean=data, max_length=max_length, device="cpu"), scratch=tmp_path)
    assert "--max-length" not in str(error.value)


@pytest.mark.parametrize("max_length", [None, 500])
def test_a_prompt_that_is_too_long_is_told_the_length_that_fits(
    writes: Path, tmp_path: Path, max_length: int | None
) -> None:
    data = table(tmp_path / "clean.csv", prompt=["word " * 600], response=["yes"])
    options: dict[str, Any] = {"model": writes, "clean": data, "device": "cpu"}
    with pytest.raises(RequestError, match="say --max-length [0-9]+ or less") as error:
        judge(Request(**options, max_length=max_length), scratch=tmp_path)
    said = re.search("--max-length ([0-9]+)", str(error.value))
    assert said is not None
    assert judge(Request(**options, max_length=int(said[1])), scratch=tmp_path)["metrics"]


def test_a_tied_counterpart_of_an_untied_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tied = tiny_llama_folder(tmp_path / "tied")
    model = tiny_llama_folder(tmp_path / "model", tie_word_embeddings=False)
    architecture(model, "LlamaForCausalLM")
    data = table(tmp_path / "clean.csv", prompt=[f"Say {n}." for n in range(12)], response=["yes"] * 12)
    options: dict[str, Any] = {"model": model, "clean": data, "defense": "mixing(reserve_ratio=0)", "device": "cpu"}
    with pytest.raises(RequestError, match="lacks 'lm_head.weight'.*its head is its table of embeddings") as error:
        purify.purify(purify.Request(**options, pretrained=str(tied), out=tmp_path / "out"))
    assert "\n" not in str(error.value)
    advice = re.search(r"\((python -c .*), then copy", str(error.value))
    assert advice is not None
    monkeypatch.chdir(tmp_path)
    exec(shlex.split(advice[1])[2], {})
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tied / name, tmp_path / "untied")
    report = purify.purify(purify.Request(**options, pretrained=str(tmp_path / "untied"), out=tmp_path / "out"))
    assert report["changed"]["parts"]


def test_a_folder_with_nothing_but_an_adapter(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    described = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "some/base"}
    (folder / "adapter_config.json").write_text(json.dumps(described), encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    data = table(tmp_path / "clean.csv", prompt=["one"], response=["yes"])
    fields: dict[str, Any] = {"task": "chores", "attack": "badword", "device": "cpu", "model": str(folder)}
    for use in (
        lambda: judge(Request(model=folder, clean=data, device="cpu"), scratch=tmp_path),
        lambda: demonstration.build(demonstration.Request(**fields, out=tmp_path / "victim")),
    ):
        with pytest.raises(RequestError, match="PEFT adapter.*merge it first.*AutoPeftModelForCausalLM"):
            use()
