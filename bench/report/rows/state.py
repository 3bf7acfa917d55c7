"""What the rows of a suite follow from, as one hash: as long as it stays, so does every table that is made of them."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from bench.experiment.grid import Cell
from bench.experiment.result_store import ResultStore
from bench.report.rows import build

LIBRARIES = ("numpy", "scipy", "pandas", "rich", "jinja2")  # that decide numbers and how they are printed


def state(cells: Mapping[str, Cell], store: ResultStore, *, suite: str) -> str:
    """Return a hash of the cells of a plan, of the files of their records and failures, and of this program.

    A file enters by its size, its times of last change and its inode, see :meth:`bench.store.Store.scan`.
    """
    digest = hashlib.sha256(f"{suite}\n{_program()}\n".encode())
    for room in ("records", "failures"):
        stamps = store.scan(room)
        lines = [f"{key} {cell.listed} {stamps.get(key)}\n" for key, cell in cells.items()]
        digest.update("".join(lines).encode())
    for words in build.words_of(cells):
        digest.update(repr(words).encode())
    return digest.hexdigest()


@cache
def _program() -> str:
    """Return what decides how rows become tables: versions of libraries, and a hash of every file of this package."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[2]
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".yaml", ".j2")):
        digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return f"{digest.hexdigest()} {platform.python_version()} {[version(name) for name in LIBRARIES]}"
