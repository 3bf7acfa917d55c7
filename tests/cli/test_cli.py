"""The command line as a user meets it: subprocesses, exit statuses, one-line errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.store import Store
from tests import preloaded

SUITE = """
name: tiny
description: a tiny suite
task: {{name: local/single, max_length: 32}}
model: {model}
attack: [clean, badword]
defense: [none, fine-tuning(steps=8), e-pur]
labels: 32
budget: {{epochs: 1, learning_rate: 0.001, precision: fp32}}
gate: {{min_asr: 0, max_acc_drop: 100, min_skill: 0}}
"""


def doorbench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COLUMNS": "120", **environment}
    return subprocess.run([preloaded.program(), *arguments], capture_output=True, text=True, env=env)


@pytest.fixture(scope="module")
def tiny(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A finished tiny suite: its file and its store."""
    folder = tmp_path_factory.mktemp("cli")
    path = folder / "tiny.yaml"
    path.write_text(SUITE.format(model=world / "tiny-bert"), encoding="utf-8")
    done = doorbench("run", str(path), "--store", str(folder / "store"), "--workers", "2", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "badword" in done.stdout
    return str(path), str(folder / "store")


@pytest.mark.parametrize("kind", ["attacks", "defenses", "tasks", "models", "suites"])
def test_list(kind: str) -> None:
    shown = doorbench("list", kind)
    assert shown.returncode == 0, shown.stderr
    rows = json.loads(doorbench("list", kind, "--json").stdout)
    assert rows
    assert all(row["name"] and row["summary"] for row in rows)


def test_describe() -> None:
    result = doorbench("describe", "fine-mixing")
    assert "reserve_ratio" in result.stdout
    assert "2210.09545" in result.stdout
    parameters = json.loads(doorbench("describe", "fine-mixing", "--json").stdout)["parameters"]
    assert parameters["reserve_ratio"]["bounds"] == ">= 0, <= 1"
    assert parameters["head"]["choices"] == ["keep", "reinitialise"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["describe", "fine-mixin"], "Did you mean 'fine-mixing'"),
        (["run", "quikstart"], "Did you mean 'quickstart'"),
        (["run", "quickstart", "--set", "defence=none"], "Did you mean 'defense'"),
        (["run", "quickstart", "--set", "attack=badword(rate=7)", "--dry-run"], "less than or equal to 1"),
        (["run", "quickstart", "--set", "task=local/nothing", "--dry-run"], "nothing"),
        (["run", "quickstart", "--set", "model=/no/such/folder", "--dry-run"], "/no/such/folder"),
        (["run", "quickstart", "--engine", "slurm"], "serial"),
        (["run", "quickstart", "--device", "tpu"], "cuda"),
        (["run", "quickstart", "--scheduler", "tcp://host:1"], "engine 'dask'"),
        (["run", "quickstart", "--engine", "dask", "--scheduler", "no.yaml"], "no cluster file"),
        (["store", "ls", "abc"], "unknown key 'abc'"),
        (["table", "quickstart", "--format", "word"], "latex"),
        (["export", "quickstart", "--format", "xls"], "parquet"),
        (["list", "attack"], "attacks"),
        (["store", "diff", "abc", "def"], "abc"),
    ],
)
def test_wrong_requests(arguments: list[str], words: str, tmp_path: Path) -> None:
    Store(tmp_path)
    done = doorbench(*arguments, DOORBENCH_STORE=str(tmp_path))
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.strip()]) == 1


def test_second_run_trains_nothing(tiny: tuple[str, str]) -> None:
    path, store = tiny

    def files() -> list[tuple[Path, int]]:
        rooms = (Path(store) / room for room in ("records", "artifacts"))
        return sorted((file, file.stat().st_ino) for room in rooms for file in room.rglob("*"))

    before = files()
    started = time.monotonic()
    assert doorbench("run", path, "--store", store, "--device", "cpu", "--no-report").returncode == 0
    assert time.monotonic() - started < 10
    assert files() == before


def test_report_commands(tiny: tuple[str, str], tmp_path: Path) -> None:
    path, store = tiny
    where = ("--store", store)
    exported = [json.loads(line) for line in doorbench("export", path, "--format", "jsonl", *where).stdout.splitlines()]
    assert {row["defense"] for row in exported} == {"none", "fine-tuning(steps=8)", "e-pur"}
    assert all(row["status"] == "done" for row in exported)
    for form in ("md", "csv", "latex", "html"):
        assert "fine-tuning" in doorbench("table", path, "--format", form, *where).stdout
    parquet = tmp_path / "cells.parquet"
    assert doorbench("export", path, "--format", "parquet", "--out", str(parquet), *where).returncode == 0
    assert parquet.exists()
    drawn = doorbench("figure", path, "--out", str(tmp_path), *where)
    assert drawn.returncode == 0, drawn.stderr
    assert {Path(line).suffix for line in drawn.stdout.split()} == {".png", ".pdf"}
    site = doorbench("site", path, "--out", str(tmp_path / "site"), *where)
    assert (
        Path(site.stdout.strip()) == tmp_path / "site" / "index.html"
        and "e-pur" in Path(site.stdout.strip()).read_text()
    )
    again = doorbench("site", store, "--out", str(tmp_path / "again"))
    assert again.returncode == 0 and (tmp_path / "again" / "defense" / "e-pur.html").is_file(), again.stderr
    assert doorbench("site", path, "--out", store).returncode == 2
    assert "done" in doorbench("status", path, *where).stdout
    assert doorbench("store", "verify", *where).returncode == 0
    listed = doorbench("store", "ls", *where).stdout
    assert "badword" in listed
    assert "seed 0" in doorbench("store", "ls", listed.splitlines()[1].split()[0], *where).stdout
    collected = doorbench("collect", path, "--out", str(tmp_path / "collected"), *where)
    assert "badword" in collected.stdout
    assert list((tmp_path / "collected").glob("*.pdf"))
    assert doorbench("claims", path, "--json", *where).returncode == 0


def test_a_collection_runs_and_is_published_suite_by_suite(tiny: tuple[str, str], tmp_path: Path) -> None:
    path, store = tiny
    other = tmp_path / "other.yaml"
    other.write_text(Path(path).read_text(encoding="utf-8").replace("name: tiny", "name: other"), encoding="utf-8")
    both = tmp_path / "both.yaml"
    both.write_text(f"name: both\ndescription: two\nsuites: [{path}, {other}]\n", encoding="utf-8")
    done = doorbench("run", str(both), "--store", store, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "tiny" in done.stdout and "other" in done.stdout
    published = tmp_path / "published"
    assert doorbench("publish", str(both), "--store", store, "--out", str(published)).returncode == 0
    for name in ("tiny", "other"):
        boards = json.loads((published / name / "leaderboard.json").read_text(encoding="utf-8"))
        assert {row["defense"] for board in boards for row in board["rows"]} <= {"fine-tuning(steps=8)", "e-pur"}
        assert (published / name / "claims.json").is_file()
    again = doorbench("store", "add", str(published), "--store", str(tmp_path / "again"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "done" in doorbench("status", str(both), "--store", str(tmp_path / "again")).stdout
    assert json.loads(doorbench("claims", str(both), "--json", "--store", store).stdout)


def test_failed_cells_are_rows_and_retry_runs_only_them(tiny: tuple[str, str], tmp_path: Path) -> None:
    path, store = tiny
    broken = ("--set", "attack=badword(rate=0.9)", "--store", store, "--device", "cpu", "--no-report")
    broken += ("--engine", "serial")
    done = doorbench("run", path, *broken)
    assert done.returncode == 1
    rows = doorbench("export", path, "--format", "jsonl", "--set", "attack=badword(rate=0.9)", "--store", store).stdout
    assert any("the training set has" in json.loads(row)["error"] for row in rows.splitlines())
    assert doorbench("run", path, *broken).returncode == 1
    assert doorbench("retry", path, *broken).returncode == 1


def test_help_is_fast_and_torch_free() -> None:
    code = "import sys; sys.argv = ['doorbench', '--help']\nfrom bench.cli import app as cli\n"
    code += "try: cli.main()\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'transformers', 'pandas', 'matplotlib', 'altair', 'jinja2'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_python_m_bench_is_doorbench() -> None:
    assert doorbench("--version").stdout.strip() == "0.1.0"
