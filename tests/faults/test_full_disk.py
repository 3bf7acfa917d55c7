"""Every command that writes where the user says, on a full disk: one line, and good files stay as they were."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli import app as cli
from bench.conformance.world import MODEL, rows
from bench.report.rows import records
from bench.store import outputs

SUITE = """
name: tiny
description: a tiny suite
task: {{name: local, folder: {task}, max_length: 32}}
model: {model}
attack: [clean, badword]
defense: [none, fine-tuning(steps=2), e-pur]
labels: 32
budget: {{epochs: 1, learning_rate: 0.001, precision: fp32}}
gate: {{min_asr: 0, max_acc_drop: 100, min_skill: 0}}
"""
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def finished(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny suite, its store, a classifier and clean examples."""
    import pandas as pd

    folder = tmp_path_factory.mktemp("finished")
    text = SUITE.format(task=(world / "single").resolve(), model=world / MODEL)
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    texts, _, labels = rows("single", 96, 9)
    pd.DataFrame({"text": texts, "label": labels}).to_csv(folder / "clean.csv", index=False)
    attack = ["attack", "badword", f"--task=local(folder={(world / 'single').resolve()}, max_length=32)"]
    for command in (
        ["run", str(folder / "tiny.yaml"), "--engine=serial", "--device=cpu", f"--store={folder / 'store'}"],
        [*attack, f"--model={world / MODEL}", "--epochs=1", "--device=cpu", f"--out={folder / 'victim'}"],
    ):
        assert doorbench(command) == 0
    return folder


def doorbench(arguments: list[str]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["doorbench", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


SUITES = ["{folder}/tiny.yaml", "--store={folder}/store"]
MODELS = ["--model={folder}/victim", "--device=cpu"]
# What is written, by command; a name with an ending is a file.
WRITES: dict[str, tuple[list[str], str]] = {
    "export csv": (["export", *SUITES, "--format=csv"], "cells.csv"),
    "export jsonl": (["export", *SUITES, "--format=jsonl"], "cells.jsonl"),
    "export parquet": (["export", *SUITES, "--format=parquet"], "cells.parquet"),
    "table md": (["table", *SUITES, "--format=md"], "table.md"),
    "table latex": (["table", *SUITES, "--format=latex"], "table.tex"),
    "stealth": (["stealth", *SUITES], "stealth.md"),
    "figure": (["figure", *SUITES], "figures"),
    "collect": (["collect", *SUITES], "figures"),
    "publish": (["publish", *SUITES], "published"),
    "site": (["site", *SUITES], "site"),
    "compare": (["compare", "none", "e-pur", "--suite={folder}/tiny.yaml", "--store={folder}/store"], "figures"),
    "judge": (["judge", *MODELS, "--clean={folder}/clean.csv"], "judged.json"),
    "inspect terminal": (["inspect", *MODELS], "report.txt"),
    "inspect html": (["inspect", *MODELS, "--format=html"], "report.html"),
    "purify": (["purify", *MODELS, "--clean={folder}/clean.csv", "--defense=fine-tuning(steps=2)"], "purified"),
    "attack": (["attack", "badword", "--task=local(folder={task}, max_length=32)", "--model={model}", "--epochs=1",
                "--device=cpu"], "victim"),
    "rebuild": (["rebuild", "{folder}/store", "{key}", "--model={model}", "--device=cpu"], "rebuilt"),
    "new": (["new", "defense", "my-own"], ""),
}  # fmt: skip
NEW_ONLY = {"purify", "attack", "rebuild", "new"}  # they replace nothing


def test_every_command_that_writes_is_tried() -> None:
    commands = [command for commands in cli.COMMANDS.values() for command in commands]
    writing = {command.__name__.rstrip("_") for command in commands if "out" in inspect.signature(command).parameters}
    assert writing == {name.split()[0] for name in WRITES}


@pytest.fixture
def write(finished: Path, world: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one of the commands into a folder; return the exit status and what it says on standard error."""

    def run(name: str, out: Path) -> tuple[int, str]:
        command, place = WRITES[name]
        defended = next(row.cell_key for row in records.load(finished / "store") if row.role == "defended")
        words = {"folder": finished, "task": (world / "single").resolve(), "model": world / MODEL, "key": defended}
        status = doorbench([*(part.format(**words) for part in command), f"--out={out / place}"])
        return status, capsys.readouterr().err

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk(small_disk: Path, write: Run, name: str) -> None:
    ballast, out = small_disk / "ballast", small_disk / "out"
    out.mkdir()
    before: dict[str, bytes] = {}
    if name not in NEW_ONLY:
        if write(name, out)[0]:
            pytest.skip("2 MB do not hold it once")
        before = contents(out)
        assert before
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1024)
    status, output = write(name, out)
    assert status == 2, output
    assert "cannot be written: no space is left" in output.splitlines()[-1]
    assert "Traceback" not in output
    assert contents(out) == before
    assert not list(out.rglob(".*")) or name == "site"


@pytest.mark.parametrize("name", WRITES)
def test_the_last_step_fails(tmp_path: Path, write: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without a disk of one's own: nothing that is written gets to the disk."""
    before: dict[str, bytes] = {}
    if name not in NEW_ONLY:
        assert write(name, tmp_path)[0] == 0
        before = contents(tmp_path)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(outputs, "_sync", full)
    status, output = write(name, tmp_path)
    assert status == 2, output
    assert "cannot be written: no space is left" in output.splitlines()[-1]
    assert contents(tmp_path) == before
    assert not list(tmp_path.rglob(".*")) or name == "site"
