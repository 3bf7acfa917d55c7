"""What a store can do without: artifacts that nobody needs, and what dead processes left behind."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.store.artifacts import Artifacts
from bench.store.identity import owner_of
from bench.store.layout import drop_tree, guarded, tree_bytes, walk, write_file
from bench.store.locks import Locks

log = logging.getLogger(__name__)
DAY = 86400.0
LOADING_SECONDS = 60.0  # after its last use, a victim may still be being loaded


@dataclass(frozen=True)
class Freed:
    """Something that gc frees, or would free.

    Attributes:
        kind: ``artifact``, ``temporary`` or ``lock``.
        name: the key of an artifact, otherwise a file name.
        bytes: its size on disk.
        reason: why it can be freed.
        freed: whether it was freed; False in a dry run, and if another process has just begun to use it.
    """

    kind: str
    name: str
    bytes: int
    reason: str
    freed: bool = False


class Collector(Artifacts, Locks):
    """Frees what a store can do without."""

    @guarded
    def gc(self, *, keep: set[str], cap_bytes: int | None = None, apply: bool = False) -> list[Freed]:
        """Free artifacts that are not in ``keep``: all of them, or the least recently used until ``cap_bytes`` is met.

        What dead processes left behind over a day ago is freed too. Without ``apply``, only return what would be freed.
        Records, what was set aside as damaged, and whatever is locked always stay.
        """
        return [
            *self._free_artifacts(list(self._unneeded(keep, cap_bytes)), apply),
            *self._free_leftovers(apply),
        ]

    def _unneeded(self, keep: set[str], cap_bytes: int | None) -> Iterator[Freed]:
        locked = {lock.key for lock in self.locks() if lock.alive}
        spared = self._file_system_time() - LOADING_SECONDS if locked else float("inf")  # somebody is working
        stored = []
        for key in self.keys_of_artifacts():
            path = self.place("artifacts", key)
            with contextlib.suppress(FileNotFoundError):
                stored.append((self.last_use(key), key, tree_bytes(path)))
        total = sum(size for _, _, size in stored)
        for used, key, size in sorted(stored):
            if key in keep or key in locked or used > spared or (cap_bytes is not None and total <= cap_bytes):
                continue
            total -= size
            yield Freed("artifact", key, size, "not needed" if cap_bytes is None else "least recently used")
        if cap_bytes is not None and total > cap_bytes:
            log.warning("%d bytes would remain, more than %d: the rest is needed or in use", total, cap_bytes)

    def _free_artifacts(self, unneeded: list[Freed], apply: bool) -> Iterator[Freed]:
        for candidate in unneeded:
            lock = self.lock(candidate.name) if apply else None
            if lock is None:
                yield candidate
                continue
            with lock, self.guard():
                trash = self.scratch()
                with contextlib.suppress(FileNotFoundError):  # somebody has just set it aside
                    os.rename(
                        self.place("artifacts", candidate.name), trash
                    )  # for others it vanishes as a whole, in one step
                drop_tree(trash)
            yield replace(candidate, freed=True)

    def _free_leftovers(self, apply: bool) -> Iterator[Freed]:
        now = self._file_system_time()
        alive_keys = {lock.key for lock in self.locks() if lock.alive}
        working = {owner.token for path, owner in self.lock_files() if path.parent.name in alive_keys}
        for path in sorted((self.root / "temp").iterdir()):
            owner = owner_of(path.name)
            alive = owner is not None and (owner.alive() or owner.token in working)
            if not alive and now - _newest(path) > DAY:
                candidate = Freed("temporary", path.name, tree_bytes(path), "left by a dead process over a day ago")
                if apply:
                    drop_tree(path)
                yield replace(candidate, freed=apply)
        for info in self.locks():
            if not info.alive:
                taken = self.lock(info.key) if apply else None
                if taken is not None:
                    taken.release()
                yield Freed("lock", info.key, 0, f"process {info.pid} on {info.host} is dead", taken is not None)

    def _file_system_time(self) -> float:
        """Return the time by the clock of the machine that holds the files, which may differ from ours."""
        with self.guard():
            probe = self.scratch()
            write_file(probe, b"")
            try:
                return probe.stat().st_mtime
            finally:
                probe.unlink()


def _newest(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        inside = (Path(folder, name) for folder, _, names in walk(path) for name in names)
        return max(p.lstat().st_mtime for p in (path, *inside))
    return float("inf")  # somebody is changing it right now
