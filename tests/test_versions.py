"""A plugin or an area of code that changed must have a new version: numbers under an old key would be wrong.

After raising the version, run ``python -m tests.test_versions`` to write the new fingerprints.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from bench.experiment import code_versions
from bench.experiment.code_versions import CODE_VERSIONS, COVERED, NO_NUMBERS
from bench.plugins import registry
from tests.test_house import imports, modules

STORED = Path(__file__).parent / "fingerprints.json"
ROOT = Path(__file__).parent.parent


def bare(source: str) -> str:
    """Return code without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def files_of(module: str, package: str) -> set[Path]:
    """Return the module's file and those of its own package that it imports, directly or not."""
    covered: set[Path] = set()
    waiting = [module]
    while waiting:
        spec = importlib.util.find_spec(waiting.pop())
        assert spec is not None and spec.origin is not None
        path = Path(spec.origin)
        if path in covered:
            continue
        covered.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith(f"{package}."):
                waiting.append(node.module)
                folder = ROOT / node.module.replace(".", "/")
                waiting += [f"{node.module}.{a.name}" for a in node.names if (folder / f"{a.name}.py").is_file()]
    return covered


def fingerprint(files: set[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: (path.name, path.as_posix())):
        digest.update(bare(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


@cache
def current() -> dict[str, list[str | int]]:
    """Return version and fingerprint of every built-in plugin and of every area of code that numbers depend on."""
    fingerprints: dict[str, list[str | int]] = {}
    for kind in (registry.attacks, registry.modifiers, registry.defenses, registry.measures):
        for name, entry in kind.entries.items():
            if entry.origin == "built-in":
                module = inspect.getmodule(entry.plugin)
                assert module is not None
                files = files_of(module.__name__, kind.package)
                fingerprints[f"{kind.kind} {name}"] = [entry.plugin.version, fingerprint(files)]
    for name, area in CODE_VERSIONS.items():
        fingerprints[f"area {name}"] = [area.version, fingerprint(matching(area.files))]
    return fingerprints


def matching(globs: Iterable[str]) -> set[Path]:
    """Return the files that one of the globs names."""
    return {path for glob in globs for path in ROOT.glob(glob)}


def what_to_raise(name: str) -> str:
    """Say where the version of a plugin or an area stands."""
    kind, _, short = name.partition(" ")
    place = f"the version of CODE_VERSIONS[{short!r}] in bench/experiment/code_versions.py"
    return place if kind == "area" else f"`version` of the {name}"


@pytest.mark.parametrize("name", sorted(current()))
def test_changed_code_has_a_new_version(name: str) -> None:
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    version, code = current()[name]
    assert name in stored, f"{name} is new: run python -m tests.test_versions"
    if stored[name][1] != code:
        assert version > stored[name][0], (
            f"the code of {name} changed but its version is still {version}: where a number can change, raise "
            f"{what_to_raise(name)}; then run python -m tests.test_versions"
        )
        pytest.fail(f"{name} has a new version: run python -m tests.test_versions to store its fingerprint")
    assert version == stored[name][0]


def test_every_file_that_can_change_a_number_belongs_to_one_area() -> None:
    files = {path for place in COVERED for path in [ROOT / place, *(ROOT / place).rglob("*.py")] if path.is_file()}
    homes = {name: matching(area.files) for name, area in CODE_VERSIONS.items()}
    assert all(homes.values()), "an area without files"
    homes["no numbers"] = matching(NO_NUMBERS)
    assert homes["no numbers"] == {ROOT / name for name in NO_NUMBERS}, "NO_NUMBERS names a file that is not there"
    for path in sorted(files | set().union(*homes.values())):
        areas = [name for name, own in homes.items() if path in own]
        assert len(areas) == 1 and path in files, (
            f"{path.relative_to(ROOT)} belongs to {areas or 'no area'}: put it into exactly one area of CODE_VERSIONS "
            "(or into NO_NUMBERS, with the reason) in bench/experiment/code_versions.py, and under COVERED"
        )


def test_what_decides_a_victim_uses_nothing_that_decides_cells_only() -> None:
    def decided(what: str) -> set[Path]:
        return matching(glob for area in CODE_VERSIONS.values() if area.decides == what for glob in area.files)

    cells = {name for name, path in modules().items() if path in decided("cell")}
    victims = [name for name, path in modules().items() if path in decided("victim")]
    assert not {name: used for name in victims if (used := cells & set(imports()[name]))}


def test_the_evaluation_is_not_in_the_key_of_a_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_versions.of_victims() == {"learning": CODE_VERSIONS["learning"].version, "work": 1, "evaluation": 1}
    raised = {name for name, area in CODE_VERSIONS.items() if area.decides == "cell" and area.version > 1}
    assert set(code_versions.of_cells()) == raised
    for name in ("evaluation", "selection", "models"):
        monkeypatch.setitem(CODE_VERSIONS, name, replace(CODE_VERSIONS[name], version=7))
    assert code_versions.of_victims() == {
        "learning": CODE_VERSIONS["learning"].version,
        "work": 1,
        "evaluation": 1,
        "models": 7,
    }
    versions = code_versions.of_cells()
    assert versions["evaluation"] == versions["selection"] == 7


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("defenses.psim", {"defenses/psim/prompt.py", "defenses/shared/forwards.py", "defenses/shared/loops.py"}),
        ("defenses.nad", {"defenses/shared/losses.py", "defenses/shared/encoder.py", "defenses/shared/tuning.py"}),
        ("attacks.unelicitable", {"attacks/unelicitable/circuit.py", "attacks/shared/batches.py"}),
        ("attacks.sos", {"attacks/shared/embedding.py"}),
    ],
)
def test_a_fingerprint_covers_what_is_imported_inside_functions(module: str, others: set[str]) -> None:
    covered = {path.relative_to(ROOT).as_posix() for path in files_of(module, module.split(".")[0])}
    assert others <= covered and any(
        name.removesuffix("/__init__.py").removesuffix(".py") == module.replace(".", "/") for name in covered
    )


if __name__ == "__main__":
    STORED.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
