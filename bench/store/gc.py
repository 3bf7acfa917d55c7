"""What a store can do without: artifacts nobody needs, and what dead processes left lying about."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.store.identity import owner_of
from bench.store.layout import drop_tree, write_file

if TYPE_CHECKING:
    from bench.store.upkeep import Upkeep

log = logging.getLogger(__name__)
DAY = 86400.0
MOMENT = 60.0  # seconds in which a worker that has just asked for a victim has loaded it


@dataclass(frozen=True)
class Freed:
    """Something that gc frees, or would free.

    Attributes:
        kind: ``artifact``, ``temporary`` or ``claim``.
        name: the key of an artifact, otherwise a file name.
        bytes: what it takes on disk.
        reason: why it can go.
        freed: whether it is gone; False in a dry run, and where another process has just begun to use it.
    """

    kind: str
    name: str
    bytes: int
    reason: str
    freed: bool = False


def collect(store: Upkeep, *, keep: set[str], cap_bytes: int | None, apply: bool) -> list[Freed]:
    """Find what can go and, with ``apply``, remove it."""
    return [
        *_free_artifacts(store, list(_unneeded(store, keep, cap_bytes)), apply),
        *_free_leftovers(store, apply),
    ]


def _unneeded(store: Upkeep, keep: set[str], cap_bytes: int | None) -> Iterator[Freed]:
    claimed = {claim.key for claim in store.claims() if claim.alive}
    spared = _file_system_time(store) - MOMENT if claimed else float("inf")  # somebody is at work
    stored = []
    for key in store.keys_of_artifacts():
        path = store.place("artifacts", key)
        with contextlib.suppress(FileNotFoundError):
            stored.append((store.last_use(key), key, tree_bytes(path)))
    total = sum(size for _, _, size in stored)
    for used, key, size in sorted(stored):
        if key in keep or key in claimed or used > spared or (cap_bytes is not None and total <= cap_bytes):
            continue
        total -= size
        yield Freed("artifact", key, size, "not needed" if cap_bytes is None else "least recently used")
    if cap_bytes is not None and total > cap_bytes:
        log.warning("%d bytes would remain, more than %d: the rest is needed or at work", total, cap_bytes)


def _free_artifacts(store: Upkeep, unneeded: list[Freed], apply: bool) -> Iterator[Freed]:
    for found in unneeded:
        claim = store.claim(found.name) if apply else None
        if claim is None:
            yield found
            continue
        with claim, store.guard():
            trash = store.scratch()
            with contextlib.suppress(FileNotFoundError):  # somebody has just set it aside
                os.rename(store.place("artifacts", found.name), trash)  # gone for others at once, as a whole
            drop_tree(trash)
        yield replace(found, freed=True)


def _free_leftovers(store: Upkeep, apply: bool) -> Iterator[Freed]:
    now = _file_system_time(store)
    alive_keys = {claim.key for claim in store.claims() if claim.alive}
    working = {owner.token for path, owner in store.claim_files() if path.parent.name in alive_keys}
    for path in sorted((store.root / "temp").iterdir()):
        owner = owner_of(path.name)
        alive = owner is not None and (owner.alive() or owner.token in working)
        if not alive and now - _newest(path) > DAY:
            found = Freed("temporary", path.name, tree_bytes(path), "left by a dead process over a day ago")
            if apply:
                drop_tree(path)
            yield replace(found, freed=apply)
    for info in store.claims():
        if not info.alive:
            taken = store.claim(info.key) if apply else None
            if taken is not None:
                taken.release()
            yield Freed("claim", info.key, 0, f"process {info.pid} on {info.host} is dead", taken is not None)


def _file_system_time(store: Upkeep) -> float:
    """Return the time by the clock of the machine that holds the files, which may not be ours."""
    with store.guard():
        probe = store.scratch()
        write_file(probe, b"")
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()


def _newest(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        inside = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        return max(p.lstat().st_mtime for p in (path, *inside))
    return float("inf")  # it is changing under our eyes


def tree_bytes(path: Path) -> int:
    """Return the size of a file, or of all files below a folder."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)
