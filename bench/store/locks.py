"""Locks: who is working on a key, so that many processes share the work and nothing is done twice.

A lock is a folder named after the key (in the folder ``claims`` of the store), with one file in it that is named after
the owner: random token, machine, process id and start. Every step is a single system call that succeeds for exactly one
process, also over NFS. No owner's name is ever used twice, so a process that was suspended for long cannot disturb the
lock of another one:

* to take a free key, rename a folder with our file in it to the key; this fails unless the key is free or empty;
* to succeed a dead owner, rename its file to our name; this fails for all but the first;
* to release the lock, remove our file, and then the folder, which fails unless it is empty.

An owner on this machine is dead when its process is. For any other owner only the heartbeat tells: a counter in its
file that it raises twice per period. The owner counts as dead when several looks have seen no change for one and a half
periods of our own monotonic clock. No two clocks are ever compared.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.errors import RequestError
from bench.store.documents import Damaged, read_bytes
from bench.store.identity import Owner, me, owner_of
from bench.store.layout import ATTEMPTS, KEY, Folder, check_key, drop_tree, guarded, write_file
from bench.store.pulse import pulse

log = logging.getLogger(__name__)
RESTS = 1.5  # periods without a heartbeat, after which an owner counts as dead
LONGEST_PERIOD = 3600.0
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}


def heartbeat() -> float:
    """Return the heartbeat period in seconds: ``DOORBENCH_HEARTBEAT``, 10 by default."""
    text = os.environ.get("DOORBENCH_HEARTBEAT", "10")
    try:
        period = float(text)
    except ValueError:
        period = 0.0
    if not 0 < period <= LONGEST_PERIOD:
        raise RequestError(f"DOORBENCH_HEARTBEAT={text!r} is not a number of seconds above 0 and up to 3600.")
    return period


@dataclass(frozen=True)
class LockInfo:
    """Who is working on a key.

    Attributes:
        since: seconds since 1970 by the owner's clock; for people only.
        alive: False if the owner is known to be dead; an owner on another machine counts as alive until its heartbeat
            has rested for long enough.
    """

    key: str
    host: str
    pid: int
    since: float
    alive: bool


class Lock:
    """A lock that this process holds. Use it in a ``with`` statement, or call :meth:`release`."""

    def __init__(self, path: Path, period: float) -> None:
        self.key, self.period, self.path = path.parent.name, period, path
        self._pid, self._since, self._beats = os.getpid(), time.time(), 0
        self._released = self._done = False
        self._finishing = threading.Lock()  # the heartbeat thread may try at the same time

    @property
    def held(self) -> bool:
        """Whether this process still has the lock; another one takes it over if this one was stopped for long."""
        return not self._released and os.path.lexists(self.path)

    def content(self) -> bytes:
        """Return the content of the lock's file; only the counter changes, and the length stays the same."""
        about = {"host": me().host, "since": self._since, "period": self.period, "beats": f"{self._beats:012}"}
        return json.dumps(about).encode()

    def renew(self) -> None:
        """Raise the heartbeat, if the lock is still ours and the store is connected."""
        self._beats += 1
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(self.path, os.O_WRONLY | os.O_NOFOLLOW)
            try:
                os.ftruncate(handle, os.write(handle, self.content()))
                os.fsync(handle)
            finally:
                os.close(handle)

    def release(self) -> None:
        """Release the lock. If the store cannot be written just now, the heartbeat thread tries again later."""
        self._released = True
        if self.finish():
            pulse.remove(self)
        else:
            pulse.add(self)

    def finish(self) -> bool:
        """Remove the files of a released lock; return False if that has to be tried again."""
        if self._pid != os.getpid():  # a child's copy is not its own
            return True
        with self._finishing:
            if self._released and not self._done:
                self._done = self._remove_files()
            return self._done

    def _remove_files(self) -> bool:
        try:
            self.path.unlink()
        except FileNotFoundError:
            if not self.path.parent.parent.exists():
                return False  # the store is disconnected
            log.warning("the lock on %s was taken over while this process rested", self.key)
        except OSError as error:
            log.warning("the lock on %s cannot be released yet: %s", self.key, error)
            return False
        with contextlib.suppress(OSError):  # another process has the key already
            self.path.parent.rmdir()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Locks(Folder):
    """The locks of a store."""

    def lock(self, key: str, *, wait: float = 0.0) -> Lock | None:
        """Lock a key, or return None if another process keeps it locked for the next ``wait`` seconds.

        After locking, check whether the work is still to do: the previous owner may just have finished it.
        """
        period, end = heartbeat(), time.monotonic() + wait
        folder = self.root / "claims" / check_key(key)
        while True:
            with self.guard():
                lock = self._try(folder, period)
            left = end - time.monotonic()
            if lock is not None or left <= 0:
                return lock
            time.sleep(min(left, period / 8))

    def is_locked(self, key: str) -> bool:
        """Whether any process, alive or dead, has locked a key; this is quick and changes nothing."""
        return os.path.lexists(self.root / "claims" / check_key(key))

    @guarded
    def locks(self) -> list[LockInfo]:
        """Return who is working on what, by key."""
        period = heartbeat()
        return [
            LockInfo(path.parent.name, owner.host, owner.pid, _about(path)[1], not _dead(path, owner, period))
            for path, owner in self.lock_files()
        ]

    def lock_files(self) -> Iterator[tuple[Path, Owner]]:
        """Yield the file and the owner of every lock, by key."""
        folders = sorted(name for name in os.listdir(self.root / "claims") if KEY.fullmatch(name))
        for name in folders:
            if (path := _file(self.root / "claims" / name)) is not None and (owner := owner_of(path.name)) is not None:
                yield path, replace(owner, host=_about(path)[0])

    def _try(self, folder: Path, period: float) -> Lock | None:
        lock = Lock(folder / f"{me().label}.{os.urandom(6).hex()}", period)
        for _ in range(ATTEMPTS):
            path = _file(folder)
            if path is None:
                taken = self._take(lock)
            elif _dead(path, owner_of(path.name), period):
                taken = _succeed(path, lock)
            else:
                return None
            if taken:
                pulse.add(lock)
                return lock
        return None

    def _take(self, lock: Lock) -> bool:
        """Take a free key; return False if another process was quicker."""
        self.home(lock.path.parent)
        temp = self.scratch()
        os.mkdir(temp)
        try:
            write_file(temp / lock.path.name, lock.content())
            with contextlib.suppress(OSError):  # some file systems do not rename to an empty folder
                lock.path.parent.rmdir()
            os.rename(temp, lock.path.parent)
        except OSError as error:
            if lock.held:  # it was done, and only the reply got lost
                return True
            if error.errno not in _TAKEN:
                raise
            return False
        finally:
            drop_tree(temp)
        return True


def _succeed(path: Path, lock: Lock) -> bool:
    """Take the lock of a dead owner; return False if another process was quicker, or if the owner released it."""
    try:
        os.rename(path, lock.path)
    except FileNotFoundError:
        if not lock.held:  # otherwise it was done, and only the reply got lost
            return False
    try:
        lock.renew()
    except OSError:
        lock.release()
        raise
    return True


def _file(folder: Path) -> Path | None:
    """Return the file in the folder of a lock, or None if the key is free."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".nfs")]  # removed, but open somewhere
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        names = [""]
    paths = [folder / name for name in names]
    if len(paths) > 1 or any(owner_of(path.name) is None or path.is_symlink() for path in paths) or folder.is_symlink():
        raise RequestError(f"{folder} is not what a lock looks like; remove it.")
    return paths[0] if paths else None


def _about(path: Path) -> tuple[str, float, float, bytes]:
    """Return host, start and period of a lock and its whole content; "unknown" and zeros if it cannot be read."""
    raw = b""
    with contextlib.suppress(OSError, Damaged, ValueError, TypeError, KeyError):
        raw = read_bytes(path)
        about = json.loads(raw)
        return str(about["host"]), float(about["since"]), min(float(about["period"]), LONGEST_PERIOD), raw
    return "unknown", 0.0, 0.0, raw


def _dead(path: Path, owner: Owner | None, period: float) -> bool:
    alive = owner.alive() if owner else None
    return _rests(path, period) if alive is None else not alive


@dataclass
class _Look:
    """What was seen of a heartbeat, by our own monotonic clock."""

    name: str
    raw: bytes
    last: float
    rested: float = 0.0


_looks: dict[Path, _Look] = {}  # by the folder of the lock


def _rests(path: Path, period: float) -> bool:
    """Whether a heartbeat has not moved for long enough. The time between two looks counts as one period at most.

    So a machine that was suspended as a whole does not take the locks of others at its first look afterwards.
    """
    _, _, its_period, raw = _about(path)
    now, period = time.monotonic(), max(period, its_period)
    look = _looks.get(path.parent)
    if look is None or (look.name, look.raw) != (path.name, raw):
        _looks[path.parent] = _Look(path.name, raw, now)
        return False
    look.rested += min(now - look.last, period)
    look.last = now
    return look.rested >= RESTS * period
