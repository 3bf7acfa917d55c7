"""Every command that the documentation shows is run, in a small world where names mean tiny things.

A block of commands is fenced as ``sh``. One that starts with ``# needs`` (the Hub, a GPU, a cluster, the package index)
is shown to readers with that mark and is not run.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.cli import reference
from bench.conformance.checks import round_trips
from bench.contracts import Plugin
from bench.plugins import registry
from tests import preloaded

ROOT = Path(__file__).parent.parent
FIRST = "quickstart.md"  # other pages look at what it ran
PAGES = sorted((ROOT / "docs").glob("*.md"), key=lambda page: (page.name != FIRST, page.name))
PAGES += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SUITE = """
name: quickstart
description: small
task: [{name: reviews, max_train: 64, max_test: 40, max_length: 32}]
model: [embedded]
attack: [clean, badword]
defense: [none, "fine-mixing(reserve_ratio=0.5, steps=4)", e-pur]
labels: 32
budget: {epochs: 1, learning_rate: 0.001}
gate: {min_asr: 0, max_acc_drop: 100, min_skill: 0}
"""
# Python runs this file first in every process: it makes the built-in names of the documentation small, and what is
# tried on their data as well.
_SMALL = """
import os, sys
if os.environ.get("DOORBENCH_SMALL_WORLD"):
    from pathlib import Path
    from dataclasses import replace
    from bench.checkpoints import generators, words
    from bench.models import embedded, pretrained
    from bench.suites import suite
    from bench.tasks import chores, generated
    from tests import few_steps, few_words
    few_steps.install()
    few_words.install()
    generated.SIZES = chores.SIZES = {"train": 160, "validation": 64, "test": 40}
    chores.Chores.model_fields["new_tokens"].default = 24  # the tiny tokenizer cuts a refusal into more pieces
    chores.Chores.model_rebuild(force=True)
    generators.TRIED, words.FLIPPED = 4, 16
    here = Path(os.environ["DOORBENCH_SMALL_WORLD"])
    suite.SUITES = here / "suites"
    pretrained._embedded_folder = lambda: here / "tiny-bert"
    pretrained.EMBEDDED_SHA256 = None
    embedded.MODELS = {name: replace(model, weights=None) for name, model in embedded.MODELS.items()}
    pretrained._fetched_folder = lambda name: here / "tiny-llama"
"""


def blocks(page: Path) -> list[str]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def is_run(block: str) -> bool:
    return not block.startswith("# needs ")


@pytest.fixture(scope="module")
def small(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which commands are run; ``doorbench`` and ``pip`` on the path are those of this Python."""
    import shutil

    here = tmp_path_factory.mktemp("docs")
    shutil.copytree(world, here / "small")
    (here / "small" / "suites").mkdir()
    (here / "small" / "suites" / "quickstart.yaml").write_text(_SUITE, encoding="utf-8")
    (here / "site").mkdir()
    (here / "site" / "sitecustomize.py").write_text(_SMALL, encoding="utf-8")
    work, tools, installed = here / "work", here / "bin", here / "installed"
    for folder in (work, tools, installed):
        folder.mkdir()
    (tools / "doorbench").write_text(preloaded.client(str(here / "socket")))
    # An editable install would change this environment; a target folder on the path shows the same.
    offline = f"--quiet --no-deps --no-build-isolation --target {installed}"
    (tools / "pip").write_text(
        f'#!/bin/sh\n[ "$1 $2" = "install -e" ] || exit 9\nexec "{sys.executable}" -m pip install {offline} "./$3"\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    (work / "data").mkdir()
    shutil.copytree(world / "single", work / "data" / "mine")
    environment = {name: value for name, value in os.environ.items() if name != "DOORBENCH_DATA"}
    environment = {
        **environment,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(map(str, (here / "site", installed, ROOT))),
        "DOORBENCH_SMALL_WORLD": str(here / "small"),
        "DOORBENCH_STORE": str(here / "store"),
        "PWD": str(work),
        "COLUMNS": "120",
    }
    with preloaded.start(here / "socket", env=environment, cwd=work) as server:
        yield environment
        server.terminate()


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(is_run, blocks(page)))], ids=lambda page: page.name)
def test_every_command_runs(page: Path, small: dict[str, str]) -> None:
    for block in filter(is_run, blocks(page)):
        done = subprocess.run(
            ["sh", "-euc", block], cwd=small["PWD"], env=small, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_commands_stand_in_blocks_that_are_run_or_marked() -> None:
    """A command outside a ``sh`` block would never be run."""
    for page in PAGES:
        text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
        if "*Needs a cluster: the commands on this page are not run by the tests.*" in text:
            continue
        assert not re.findall(r"^ {4}(?:doorbench|python -m|pip) .*$", text, re.MULTILINE), page.name


def test_reference_has_every_plugin_and_field() -> None:
    pages = reference.pages()
    for kind, plugins in (("attacks", registry.attacks), ("defenses", registry.defenses), ("tasks", registry.tasks)):
        for name, entry in plugins.entries.items():
            assert f"\n## {name}\n" in pages[kind]
            assert f"| [`{name}`](#{name}) |" in pages[kind]
            for field, info in entry.plugin.model_fields.items():
                assert f"| `{info.alias or field}` |" in pages[kind]
    assert "## doorbench purify" in pages["commands"]
    assert "`--pretrained`" in pages["commands"]


@pytest.mark.parametrize(("page", "names"), [("attack", ["casing", "decayed"]), ("defense", ["head-only"])])
def test_the_methods_of_the_guides_are_plugins(page: str, names: list[str]) -> None:
    text = next((ROOT / "docs").glob(f"add-a*-{page}.md")).read_text(encoding="utf-8")
    made = []
    for code in _PYTHON.findall(text):
        module: dict[str, Any] = {}
        exec(compile(code, page, "exec"), module)
        plugins = [kind for kind in module.values() if inspect.isclass(kind) and issubclass(kind, Plugin)]
        made += [plugin for plugin in plugins if plugin.name and plugin.__module__ == "builtins"]
    for plugin in made:
        round_trips(plugin)
    assert [plugin.name for plugin in made] == names


def test_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "reference" / "defenses.html").read_text(encoding="utf-8")
    assert "fine-mixing" in page
    assert "fonts.googleapis.com" not in page
    attacks = (tmp_path / "site" / "attacks.html").read_text(encoding="utf-8")
    assert all(f'<a href="reference/attacks.html#{name}">' in attacks for name in registry.attacks.names())
