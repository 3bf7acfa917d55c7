"""A plugin or a room whose code changed must have a new version: numbers under an old key would be wrong.

After raising the version, run ``python -m tests.test_versions`` to write the new fingerprints.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
from functools import cache
from pathlib import Path

import pytest

from bench.experiment import recipes
from bench.plugins import registry

STORED = Path(__file__).parent / "fingerprints.json"
ROOT = Path(__file__).parent.parent
ROOM_FILES = {
    "learning": "bench/learning",
    "evaluation": "bench/experiment/evaluation.py",
    "work": "bench/experiment/work.py",
}


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
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        spec = importlib.util.find_spec(waiting.pop())
        assert spec is not None and spec.origin is not None
        path = Path(spec.origin)
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith(f"{package}."):
                waiting.append(node.module)
                folder = ROOT / node.module.replace(".", "/")
                waiting += [f"{node.module}.{a.name}" for a in node.names if (folder / f"{a.name}.py").is_file()]
    return found


def fingerprint(files: set[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: (path.name, path.as_posix())):
        digest.update(bare(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


@cache
def current() -> dict[str, list[str | int]]:
    """Return version and fingerprint of every built-in plugin and of every room that numbers depend on."""
    found: dict[str, list[str | int]] = {}
    for kind in (registry.attacks, registry.modifiers, registry.defenses):
        for name, entry in kind.found.items():
            if entry.origin == "built-in":
                module = inspect.getmodule(entry.plugin)
                assert module is not None
                files = files_of(module.__name__, kind.package)
                found[f"{kind.kind} {name}"] = [entry.plugin.version, fingerprint(files)]
    for room, place in ROOM_FILES.items():
        files = set((ROOT / place).rglob("*.py")) if (ROOT / place).is_dir() else {ROOT / place}
        found[f"room {room}"] = [recipes.ROOMS[room], fingerprint(files)]
    return found


@pytest.mark.parametrize("name", sorted(current()))
def test_changed_code_has_a_new_version(name: str) -> None:
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    version, code = current()[name]
    assert name in stored, f"{name} is new: run python -m tests.test_versions"
    if stored[name][1] != code:
        assert version > stored[name][0], f"the code of {name} changed but its version is still {version}"
        pytest.fail(f"{name} has a new version: run python -m tests.test_versions to store its fingerprint")
    assert version == stored[name][0]


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("defenses.psim", {"defenses/psim/prompt.py", "defenses/shared/forwards.py", "defenses/shared/loops.py"}),
        ("defenses.nad", {"defenses/shared/losses.py", "defenses/shared/encoder.py", "defenses/shared/tuning.py"}),
        ("attacks.unelicitable", {"attacks/unelicitable/circuit.py", "attacks/shared/loops.py"}),
        ("attacks.sos", {"attacks/shared/embedding.py"}),
    ],
)
def test_a_fingerprint_covers_what_is_imported_inside_functions(module: str, others: set[str]) -> None:
    found = {path.relative_to(ROOT).as_posix() for path in files_of(module, module.split(".")[0])}
    assert others <= found and any(
        name.removesuffix("/__init__.py").removesuffix(".py") == module.replace(".", "/") for name in found
    )


if __name__ == "__main__":
    STORED.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
