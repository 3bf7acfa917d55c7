"""Whatever a file that a user hands over holds: every command ends with a result or one line, never in a traceback."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import models
from bench.cli import app as cli

TABLES = (
    b"",
    b"text,label\n",
    b"text,label\ngood film,0\nbad film,1\n" * 1,
    b"text,label\n" + b"good film,0\nbad film,1\n" * 8,
    b"text,label,label\na,0,1\n",
    b"text,label\ncaf\xe9,0\n",
    b'text,label\n"never closed,0\n',
    b'text\tlabel\n" good\t0\nbad "\t1\n',
    b"text,text_pair,label\n" + b"a,b,0\nc,d,1\n" * 8,
    b"text,label\n" + b"a,NEG\nb,POS\n" * 8,
    b"text,label,target,original\n" + b"a cf,0,1,a\n" * 4,
    b"text,label,target,original\na cf,0,1,\n",
    b'{"text": null, "label": 0}\n',
    b'{"text": "a", "text": "b", "label": 0}\n',
    b'{"text": "\\ud800", "label": 0}\n',
    b'{"text": "a", "label": 1e400}\n',
    b"[" * 5000,
    b"9" * 5000,
    b"PAR1" + b"\0" * 40 + b"PAR1",
    b"\xff\xfet\0e\0x\0t\0",
    b"\x1f\x8b\x08\0\0",
    b"\0\5\x16\7Mac OS X",
)
DOCUMENTS = (
    b"null", b"[]", b"{}", b"[{}]", b'"text"', b"NaN", b"{'a'}", b'{"a": 1, "a": 2}', b'{"board": 3, "rows": []}',
    b'{"board": "fine-tuned", "rows": [{"defense": 3}]}', b'{"trigger_kind": "Words", "target": [1]}',
    b'{"trigger_kind": "Words", "trigger_fields": {"words": 3}, "target": 1}', b'{"target": 1}',
    b"name: x\ndescription: y\n", b"name: [x\n", b"- 1\n", b"a: !!python/none x\n", b"%YAML 9\n---\n", b"a: &a [*a]\n",
    b"name: x\ndescription: d\ntask: 3\nmodel: [[]]\nattack: {}\ndefense: {name: 3}\n",
    b"name: x\ndescription: d\ntask: reviews\nmodel: embedded\nattack: {name: badword, sweep: 3}\ndefense: none\n",
    b"name: x\ndescription: d\ntask: {name: local, folder: '\\0'}\nmodel: ''\nattack: clean\ndefense: none\n",
    b'{"key": "x", "recipe": {}}', b'{"sha256": 3, "record": {}}', b'{"sha256": "x", "record": {"key": []}}',
)  # fmt: skip


@pytest.fixture(scope="module")
def tuned(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier in a folder."""
    folder = tmp_path_factory.mktemp("any") / "model"
    located = models.create(str(world / "tiny-bert"))
    located.classifier_model(classes=2, seed=0).save_pretrained(folder)
    located.tokenizer().save_pretrained(folder)
    return folder


Command = Callable[[Path, Path], tuple[str, ...]]
COMMANDS: dict[str, tuple[str, Command]] = {  # the name of the file, and the command that reads it
    "purify": ("c", lambda model, file: (*of("purify", model), "--clean", str(file), "--defense", "head-reset")),
    "judge": ("c", lambda model, file: (*of("judge", model), "--clean", str(file))),
    "judge triggered": (
        "c", lambda model, file: (*of("judge", model), "--clean", str(good(model)), "--triggered", str(file))),
    "judge trigger": (
        "t.json", lambda model, file: (*of("judge", model), "--clean", str(good(model)), "--trigger", str(file))),
    "inspect texts": (
        "c", lambda model, file: (*of("inspect", model), "--texts", str(file), "--test", "weight-drift")),
    "purify board": (
        "b.json", lambda model, file: (*of("purify", model), "--clean", str(good(model)), "--board", str(file))),
    "run": ("s.yaml", lambda model, file: ("run", str(file), "--dry-run")),
    "table": ("s.yaml", lambda model, file: ("table", str(file))),
    "submit": ("r.json", lambda model, file: ("submit", "--check", str(file.parent))),
    "submit lines": ("records.jsonl.gz", lambda model, file: ("submit", "--check", str(file.parent))),
    "store add": ("r.json", lambda model, file: ("store", "add", str(file.parent))),
    "site": ("records.jsonl", lambda model, file: ("site", str(file.parent), "--out", str(file.parent / "site"))),
    "configuration": ("config.json", lambda model, file: (*of("judge", file.parent), "--clean", str(good(model)))),
    "tokenizer": ("tokenizer.json", lambda model, file: (*of("judge", file.parent), "--clean", str(good(model)))),
    "its configuration": (
        "tokenizer_config.json", lambda model, file: (*of("judge", file.parent), "--clean", str(good(model)))),
    "weights": ("model.safetensors", lambda model, file: (*of("judge", file.parent), "--clean", str(good(model)))),
    "index": (
        "model.safetensors.index.json", lambda model, file: (*of("judge", file.parent), "--clean", str(good(model)))),
}  # fmt: skip


def of(command: str, model: Path) -> tuple[str, ...]:
    out = ("--out", str(model.parent / "out")) if command == "purify" else ()
    return (command, "--model", str(model), "--device", "cpu", *out)


def good(model: Path) -> Path:
    path = model.parent / "good.csv"
    path.write_bytes(TABLES[3])
    return path


def contents(name: str) -> list[bytes]:
    """Return what is tried: the corpus, pieces of it, and pieces with a byte changed; the same in every run."""
    rng = random.Random(name)
    corpus = [*TABLES, *DOCUMENTS]
    for source in rng.sample(corpus, 12):
        raw = bytearray(source[: rng.randrange(len(source) + 1)])
        if raw:
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        corpus.append(bytes(raw))
    return corpus


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_ends_in_a_traceback(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv("DOORBENCH_STORE", str(tmp_path / "store"))
    file, command = COMMANDS[name]
    of_model = "." in file and (tuned / file).exists() or "index" in file
    for number, content in enumerate(contents(name)):
        folder = tmp_path / str(number)
        shutil.copytree(tuned, folder) if of_model else folder.mkdir()
        if "index" in file:
            (folder / "model.safetensors").unlink()
        suffix = (".csv", ".tsv", ".jsonl", ".parquet")[number % 4] if file == "c" else ""
        (folder / f"{file}{suffix}").write_bytes(content)
        monkeypatch.setattr(sys, "argv", ["doorbench", *command(tuned, folder / f"{file}{suffix}")])
        with pytest.raises(SystemExit) as end:
            cli.main()
        output: Any = capsys.readouterr()
        assert end.value.code in (0, 1, 2, None), (content, output)
        lines = [line for line in output.err.splitlines() if line.startswith("doorbench: ")]
        assert "Traceback" not in output.err and len(lines) == (end.value.code == 2), (content, output)
        shutil.rmtree(tuned.parent / "out", ignore_errors=True)
    assert os.listdir(tmp_path)
