"""``import doorbench``: the public names, loaded late, and an error where other packages stand in the way."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

import bench
import doorbench
from doorbench import contracts, tasks

ROOT = Path(__file__).parent.parent
SLOW = ("torch", "transformers", "pandas", "matplotlib")


def python(code: str, folder: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a folder, with other folders before ours on Python's path."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, env={"PYTHONPATH": ":".join(map(str, (*path, ROOT)))}, capture_output=True, text=True,
    )  # fmt: skip


def test_it_has_the_names_of_bench() -> None:
    assert set(bench.__all__) < set(doorbench.__all__) <= set(dir(doorbench))
    assert all(getattr(doorbench, name) is getattr(bench, name) for name in bench.__all__)
    assert doorbench.__version__ == bench.__version__
    with pytest.raises(AttributeError, match="it has .*evaluate"):
        doorbench.nothing  # noqa: B018


def test_importing_it_is_quick(tmp_path: Path) -> None:
    code = f"""
import sys, doorbench
dir(doorbench)
assert not {{"numpy", "pydantic"}} & set(sys.modules)
import doorbench.contracts, doorbench.tasks
from doorbench import conformance, evaluate, learning
sys.exit(", ".join(set({SLOW}) & set(sys.modules)) or 0)
"""
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_contracts_have_everything_that_our_own_methods_import() -> None:
    needed: set[str] = set()
    for path in [path for package in ("attacks", "defenses") for path in (ROOT / package).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("bench.contracts", "bench.errors")):
                needed |= {alias.name for alias in node.names}
    assert len(needed) > 20
    assert not {name for name in needed if not hasattr(contracts, name)}
    assert contracts.Attack is bench.contracts.Attack and tasks.assemble is bench.tasks.assemble.assemble


def test_it_is_installed_with_the_rest() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = find_packages(str(ROOT), **setup["tool"]["setuptools"]["packages"]["find"])
    assert {"doorbench", "bench", "attacks", "defenses"} <= set(packages)
    assert setup["project"]["scripts"] == {"doorbench": "doorbench.__main__:main"}
    done = subprocess.run([sys.executable, "-m", "doorbench", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == doorbench.__version__


@pytest.mark.parametrize("name", ["bench", "attacks", "defenses"])
def test_a_package_in_the_way_is_an_error_of_one_line(name: str, tmp_path: Path) -> None:
    other = tmp_path / name / "__init__.py"
    other.parent.mkdir()
    other.touch()
    done = python("import doorbench", tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: Python finds another package '{name}' ({other}) before DoorBench's own")
    assert f"take {tmp_path} off Python's path" in last


def test_a_package_written_over_ours_is_an_error_of_one_line(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "doorbench", tmp_path / "doorbench", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("bench", "attacks", "defenses"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    last = python("import doorbench", tmp_path).stderr.splitlines()[-1]
    assert last.startswith("ImportError: another distribution wrote its own package 'bench' over DoorBench's")


def test_python_m_bench_looks_too(tmp_path: Path) -> None:
    """A folder ``attacks`` of the user must not look like a bench without attacks."""
    (tmp_path / "attacks").mkdir()
    (tmp_path / "attacks" / "__init__.py").touch()
    command = [sys.executable, "-m", "bench", "list", "attacks"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1 and "another package 'attacks'" in done.stderr.splitlines()[-1]


def test_the_error_names_the_distribution_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "defenses.py").touch()
    about = tmp_path / "moat-2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: moat\nVersion: 2.0\n")
    (about / "top_level.txt").write_text("defenses\n")
    done = python("import doorbench", ROOT.parent, tmp_path)
    assert "uninstall moat" in done.stderr.splitlines()[-1]
