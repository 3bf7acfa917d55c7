"""The rooms of the house: what imports what. CONTRIBUTING.md says what each room is for."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bench", "attacks", "defenses", "doorbench")
# Lowest floor first. A room imports only from lower floors; rooms of one floor do not know each other.
FLOORS = (
    ("errors", "keys", "seeds", "_version"),
    ("contracts",),
    ("models", "suites"),
    ("plugins", "learning"),
    ("tasks",),
    ("attacks", "defenses", "measures"),
    ("store",),
    ("runner",),
    ("experiment",),
    ("report", "analysis", "conformance", "scaffold"),
    ("checkpoints",),
    ("session",),
    ("results",),
    ("api",),
    ("__init__",),
    ("cli",),
    ("doorbench",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
LONGEST = 400  # lines of a file
NAMELESS = {"told", "found", "there"}  # they say how a thing came, not what it is


@cache
def modules() -> dict[str, Path]:
    """Every module of the four packages by its dotted name."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def room_of(module: str) -> str:
    """The room of a module: a folder or a loose file of bench/, or one of the three other packages."""
    package, *inner = module.split(".")
    return package if package != "bench" else (inner or ["__init__"])[0]


@cache
def imports() -> dict[str, dict[str, int]]:
    """For each module what it imports of the four packages, also inside functions, with the line."""
    by_module: dict[str, dict[str, int]] = defaultdict(dict)
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in modules() else node.module for name in names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                if name in modules() and name != module:
                    by_module[module].setdefault(name, node.lineno)
    return by_module


def test_a_room_imports_only_from_lower_floors() -> None:
    wrong = [
        f"{module}:{line} imports {name}"
        for module, names in imports().items()
        for name, line in names.items()
        if room_of(module) != room_of(name) and FLOOR[room_of(name)] >= FLOOR[room_of(module)]
    ]
    assert not wrong, wrong


def test_bench_names_no_plugin() -> None:
    assert not [(m, n) for m, names in imports().items() for n in names if m.startswith("bench") and "bench" not in n]


def test_no_files_import_each_other_in_a_circle() -> None:
    open_, closed, path = set[str](), set[str](), list[str]()

    def visit(module: str) -> None:
        if module in open_:
            pytest.fail(" -> ".join([*path[path.index(module) :], module]))
        if module in closed:
            return
        open_.add(module)
        path.append(module)
        for name in imports()[module]:
            visit(name)
        path.pop()
        open_.remove(module)
        closed.add(module)

    for module in list(modules()):
        visit(module)


def test_every_room_has_a_floor_and_nothing_loose_is_added() -> None:
    rooms = {room_of(module) for module in modules()}
    assert rooms == set(FLOOR), (
        "a new room or a loose file in bench/: give it a floor here and a line in CONTRIBUTING.md"
    )


def test_folders_of_plugins_list_methods() -> None:
    from bench.plugins import registry

    kinds = (registry.attacks, registry.modifiers, registry.defenses)
    homes = {entry.plugin.__module__ for kind in kinds for entry in kind.entries.values()}
    homes |= {registry.payloads.package}
    for package in ("attacks", "defenses"):
        entries = {path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or path.is_dir()}
        entries -= {"__init__", "__pycache__", "shared"}
        assert {f"{package}.{name}" for name in entries} == {home for home in homes if home.startswith(package)}


def test_no_file_is_longer_than_a_few_screens() -> None:
    files = [path for folder in (*PACKAGES, "tests") for path in (ROOT / folder).rglob("*.py")]
    long = {str(path): n for path in files if (n := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST}
    assert not long


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The names of variables, parameters, attributes, functions and imports, each with its line."""
    for node in ast.walk(tree):
        for field in ("id", "arg", "attr", "name", "asname"):
            if isinstance(name := getattr(node, field, None), str):
                yield getattr(node, "lineno", 0), name


def test_names_say_what_they_hold() -> None:
    for folder in (*PACKAGES, "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            names = identifiers(ast.parse(path.read_text(encoding="utf-8")))
            assert not [f"{path}:{line}: {name}" for line, name in names if name.strip("_") in NAMELESS]
