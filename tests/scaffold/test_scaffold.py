"""``new`` writes packages that install, show up, run and pass ``check``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import scaffold
from bench.errors import RequestError
from tests import preloaded

ROOT = Path(__file__).parents[2]
SUITE = """
name: external
description: plugins of others
task: {name: weather, max_length: 32}
model: MODEL
attack: [clean, first-word]
defense: [none, head-tuning]
labels: 32
budget: {epochs: 1, learning_rate: 0.001, precision: fp32}
"""
PLUGINS = {"attack": "first-word", "defense": "head-tuning", "task": "weather"}


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which one plugin of each kind is installed."""
    folder = tmp_path_factory.mktemp("plugins")
    packages = [str(scaffold.create(kind, name, folder)) for kind, name in PLUGINS.items()]
    target = folder / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", str(target), *packages], check=True)
    path = os.pathsep.join([str(target), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "120"}


@pytest.fixture(scope="module")
def doorbench(installed: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run a command where the plugins are installed."""
    with preloaded.serving(tmp_path_factory.mktemp("served"), env=installed, cwd=ROOT) as program:
        yield lambda *arguments: subprocess.run([program, *arguments], capture_output=True, text=True, env=installed)


def test_external_plugins_are_listed_and_run_and_marked(doorbench: Run, world: Path, tmp_path: Path) -> None:
    for kind, name in PLUGINS.items():
        listed = json.loads(doorbench("list", f"{kind}s", "--json").stdout)
        assert {row["name"]: row["origin"] for row in listed}[name] == f"doorbench-{name}"
    suite = tmp_path / "external.yaml"
    suite.write_text(SUITE.replace("MODEL", str(world / "tiny-bert")), encoding="utf-8")
    where = ("--store", str(tmp_path / "store"))
    done = doorbench("run", str(suite), *where, "--engine", "serial", "--device", "cpu", "--no-report")
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "store" / "records").rglob("*.json")]
    origins = [record["record"]["cell"]["origin"] for record in records]
    assert {
        "task": "doorbench-weather",
        "attack": "doorbench-first-word",
        "defense": "doorbench-head-tuning",
    } in origins
    table = doorbench("table", str(suite), *where, "--format", "md").stdout
    assert "head-tuning‡" in table and "‡ is external, from doorbench-head-tuning" in table
    checked = doorbench("submit", "--check", str(tmp_path / "store"))
    assert checked.returncode == 0, checked.stdout
    assert "attack first-word is external, from doorbench-first-word" in checked.stdout


@pytest.mark.parametrize("name", PLUGINS.values())
def test_generated_plugins_pass_the_kit(doorbench: Run, name: str) -> None:
    done = doorbench("check", f"doorbench-{name}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every check passed" in done.stdout


def test_kit_finds_faults(installed: dict[str, str], tmp_path: Path) -> None:
    package = scaffold.create("defense", "bad-one", tmp_path)
    file = package / "doorbench_bad_one.py"
    text = file.read_text(encoding="utf-8")
    text = text.replace("frozenset({Needs.CLEAN})", "frozenset()").replace('"yours, with an arXiv id"', '""')
    file.write_text(text, encoding="utf-8")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", str(tmp_path / "installed"), str(package)], check=True)
    path = os.pathsep.join([str(tmp_path / "installed"), installed["PYTHONPATH"]])
    command = [sys.executable, "-m", "bench", "check", "bad-one"]  # where one more plugin is installed
    done = subprocess.run(command, capture_output=True, text=True, env={**installed, "PYTHONPATH": path})
    assert done.returncode == 1
    assert "citation is empty" in done.stdout
    assert "Needs.CLEAN" in done.stdout


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [("atack", "x", "Did you mean 'attack'"), ("attack", "badword", "is taken"), ("defense", "../x", "lower-case"),
     ("defense", "none", "stands for no defense"), ("defense", "auto", "stands for the best"),
     ("task", "X", "lower-case"), ("task", "import os", "lower-case")],
)  # fmt: skip
def test_wrong_names(tmp_path: Path, kind: str, name: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        scaffold.create(kind, name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    scaffold.create("attack", "twice", tmp_path)
    with pytest.raises(RequestError, match="exists already"):
        scaffold.create("attack", "twice", tmp_path)


def test_unknown_packages(doorbench: Run) -> None:
    done = doorbench("check", "no-such-thing")
    assert done.returncode == 2
    assert "unknown plugin or installed package" in done.stderr
