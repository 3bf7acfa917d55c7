"""What strangers hand in: suites, settings, names, plugins and checkpoints that mean harm.

Each is refused by the command line with one line and exit status 2, quickly, and nothing of it is run or written.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from bench.cli import app as cli
from bench.contracts import Classifier, Defended, Defense
from bench.contracts.access import Access
from bench.errors import RequestError
from bench.plugins import registry

NAMES = {
    "parent": "../x",
    "absolute": "/etc/passwd",
    "NUL": "a\\0b",
    "newline": "a\\nb",
    "300 characters": "x" * 300,
    "100,000 characters": "x" * 100_000,
    "looks like fine-mixing": "fine-m\\u0456xing",
    "right to left": "\\u202egnixim-enif",
    "option": "--help",
    "empty": "",
    "markup": "[bold]x[/]",
}
GOOD = {
    "name": "mine",
    "description": "d",
    "task": "reviews",
    "model": "embedded",
    "attack": "clean",
    "defense": "none",
}

Doorbench = Callable[..., str]


@pytest.fixture
def refused(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Doorbench:
    """Give a command that must be refused; return the one line that it says."""
    store = tmp_path / "store"
    monkeypatch.setenv("DOORBENCH_STORE", str(store))

    def run(*arguments: str) -> str:
        before = set(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["doorbench", *arguments])
        started = time.monotonic()
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert time.monotonic() - started < 30
        output = capsys.readouterr()
        assert end.value.code == 2, output
        assert "Traceback" not in output.err
        assert len(output.err) < 5000
        lines = [line for line in output.err.splitlines() if line.strip()]
        assert len(lines) == 1, lines
        written = set(tmp_path.rglob("*")) - before
        assert all(store == path or store in path.parents for path in written), written
        assert not any(path.suffix == ".json" and path.name not in ("store.json", "last-run.json") for path in written)
        return lines[0]

    return run


def write(folder: Path, text: str) -> str:
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def suite_text(**changes: str) -> str:
    return "".join(f"{name}: {value}\n" for name, value in (GOOD | changes).items())


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("field", ["name", "task", "model", "attack", "defense", "local task", "chain", "field"])
def test_names_in_a_suite(refused: Doorbench, tmp_path: Path, field: str, name: str) -> None:
    match field:
        case "local task":
            changes = {"task": f'{{name: local, folder: "{name}"}}'}
        case "chain":
            changes = {"defense": f'"e-pur+{name}"'}
        case "field":
            changes = {"defense": f'{{name: fine-mixing, "{name}": 1}}'}
        case _:
            changes = {field: f'"{name}"'}
    refused("run", write(tmp_path, suite_text(**changes)), "--dry-run")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\0b", "a\nb", "x" * 300, f"{'x' * 300}.yaml", "", "[bold]"])
def test_names_on_the_command_line(refused: Doorbench, name: str) -> None:
    for command in (("run", name), ("describe", name), ("list", name), ("store", "ls", name)):
        refused(*command)
    if "\0" not in name:
        refused("run", "quickstart", f"--set=task={name}", "--dry-run")


BOMB = "a: &a [x, x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in pairwise("abcdefghi"))
BAD = {
    "alias bomb": BOMB,
    "merged bomb": "name: &a {x: 1}\ndescription: {<<: *a}\n",
    "deep list": suite_text(defense="[" * 3000 + "]" * 3000),
    "deep mapping": suite_text(defense="{a: " * 3000 + "1" + "}" * 3000),
    "large": "#" * 1_000_001,
    "python call": suite_text(defense="!!python/object/apply:os.system ['touch {trap}']"),
    "python name": suite_text(defense="!!python/name:os.system"),
    "python new": suite_text(defense="!!python/object/new:os.system ['touch {trap}']"),
    "own tag": suite_text(defense="!evil x"),
    "alias in a short text": suite_text(attack="'badword(words=[&a [x,x], &b [*a,*a], *b])'"),
    "python in a short text": suite_text(attack="'badword(rate=!!python/object/apply:os.system [touch {trap}])'"),
    "NUL": "name: a\0b\n",
    "control characters": "name: \x1b[31m\n",
    "infinite": suite_text(budget="{learning_rate: .inf}"),
    "no number": suite_text(budget="{learning_rate: .nan}"),
    "infinite rate": suite_text(tolerance=".inf"),
    "an impossible date": suite_text(seed="2001-99-99"),
    "a number of 5,000 digits": suite_text(seed="9" * 5000),
    "a number that needs hours": suite_text(seed="1" + ":1" * 10_000),
    "a set": suite_text(defense="!!set {none, none}"),
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_suites_that_mean_harm(refused: Doorbench, tmp_path: Path, text: str) -> None:
    trap = tmp_path / "executed"
    path = write(tmp_path, text.replace("{trap}", str(trap)))
    refused("run", path, "--dry-run")
    assert not trap.exists()


def test_python_tags_in_settings(refused: Doorbench, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    for setting in ("seed", "budget.epochs", "attack"):
        refused("run", "quickstart", f"--set={setting}=!!python/object/apply:os.system ['touch {trap}']", "--dry-run")
    assert not trap.exists()


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a checkpoint that asks for code"])
def test_a_poisoned_checkpoint_is_never_opened(refused: Doorbench, world: Path, tmp_path: Path, beside: bool) -> None:
    trap = tmp_path / "executed"

    class Poison:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {trap}",)

    folder = Path(shutil.copytree(world / "tiny-bert", tmp_path / "model"))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Poison()))
    if beside:
        (folder / "evil.py").write_text(f"open({str(trap)!r}, 'w')")
        (folder / "config.json").write_text('{"model_type": "bert", "auto_map": {"AutoConfig": "evil.Evil"}}')
    else:
        (folder / "model.safetensors").unlink()
    refusal = refused("run", write(tmp_path, suite_text(model=str(folder), task="local/single")), "--report")
    assert ("auto_map" if beside else "safetensors") in refusal
    assert not trap.exists()


def plugin(name: object) -> ModuleType:
    """Return a module with a defense of this name, as a third party may ship one."""
    module = ModuleType("third_party")

    class Hostile(Defense):
        """Does nothing."""

        name: ClassVar[str] = ""

        def defend(self, classifier: Classifier, access: Access) -> Defended:
            return Defended(classifier)

    Hostile.name = name  # type: ignore[assignment]
    Hostile.__module__ = module.__name__
    module.Hostile = Hostile  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/b",
        "a\0b",
        "x" * 300,
        "f\u0456ne-mixing",
        "FINE-MIXING",
        "fine-mixing",
        "a b",
        "a+b",
        "",
        "-",
        None,
        7,
    ],
    ids=repr,
)
def test_plugins_with_hostile_names_are_left_out(monkeypatch: pytest.MonkeyPatch, name: Any) -> None:
    point = EntryPoint("bad", "third_party", "doorbench.defenses")
    monkeypatch.setitem(sys.modules, "third_party", plugin(name))
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "doorbench.defenses" else [])
    plugins: Any = registry.Registry("defense", Defense, "defenses", "doorbench.defenses")  # type: ignore[type-abstract]
    assert {entry.origin for entry in plugins.entries.values()} == {"built-in"}
    assert "bad" in plugins.broken
    assert plugins.names() == registry.defenses.names(), "all others are there"
    with pytest.raises(RequestError, match="cannot be loaded"):
        plugins.get("bad")


def test_a_good_plugin_beside_a_bad_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint(name, name, "doorbench.defenses") for name in ("bad", "good")]
    monkeypatch.setitem(sys.modules, "bad", plugin("../x"))
    good = plugin("third-party")
    good.Hostile.__module__ = good.__name__ = "good"
    monkeypatch.setitem(sys.modules, "good", good)
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    plugins: Any = registry.Registry("defense", Defense, "defenses", "doorbench.defenses")  # type: ignore[type-abstract]
    assert "third-party" in plugins.names()
    assert list(plugins.broken) == ["bad"]
