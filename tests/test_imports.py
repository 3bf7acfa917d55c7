"""Describing plugins is quick: what is slow to import waits until one runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SLOW = ("torch", "transformers", "peft", "pandas", "sklearn")
CODE = """
import importlib, pkgutil, sys
package, slow = importlib.import_module(sys.argv[1]), set(sys.argv[2:])
for info in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f"{package.__name__}.{info.name}")
    loaded = sorted(slow & set(sys.modules))
    if loaded:
        sys.exit(f"{package.__name__}.{info.name} imports {', '.join(loaded)}")
"""


@pytest.mark.parametrize("package", ["attacks", "defenses"])
def test_plugin_modules_import_nothing_slow(package: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, package, *SLOW], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
