"""Locks: who is at work on a key, so that many processes share the work and nothing is done twice.

A lock is a folder called after the key, with one file in it that is called after its owner: random token, machine,
process id and start. Every step is one call that has exactly one winner, also over NFS, and as no owner's name is ever
used twice, a process that was asleep for long cannot hit what belongs to another one:

* to take a free key, a folder with our file in it is renamed to the key, which fails unless that is free or empty;
* to succeed a dead owner, its file is renamed to our name, which fails for all but the first;
* to give back, our file is removed, and then the folder, which fails unless it is empty.

An owner on this machine is dead when its process is. Of any other owner only the heartbeat tells: a counter in its
file that it raises twice in a period. It is dead when we have looked several times and seen no change for one and a
half periods of our own monotonic clock. No two clocks are ever compared.
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
from bench.store.layout import ATTEMPTS, KEY, Folder, check_key, drop_tree, write_file
from bench.store.pulse import pulse

log = logging.getLogger(__name__)
RESTS = 1.5  # periods without a heartbeat after which an owner counts as dead
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
    """Who is at work on a key.

    Attributes:
        since: seconds since 1970 by the owner's clock; for people only.
        alive: False where the owner is known to be dead; another machine's counts as alive until it is seen to rest.
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
        """Whether nobody has taken the lock over, as happens to a process that was stopped for long."""
        return not self._released and os.path.lexists(self.path)

    def content(self) -> bytes:
        """Return what the file of the lock says; only the counter changes, and its length never does."""
        about = {"host": me().host, "since": self._since, "period": self.period, "beats": f"{self._beats:012}"}
        return json.dumps(about).encode()

    def renew(self) -> None:
        """Raise the heartbeat, if the lock is still ours and its store is there."""
        self._beats += 1
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(self.path, os.O_WRONLY | os.O_NOFOLLOW)
            try:
                os.ftruncate(handle, os.write(handle, self.content()))
                os.fsync(handle)
            finally:
                os.close(handle)

    def release(self) -> None:
        """Give the lock back. If the store cannot be written just now, the heartbeat thread tries again later."""
        self._released = True
        if self.finish():
            pulse.remove(self)
        else:
            pulse.add(self)

    def finish(self) -> bool:
        """Give back what was released; False where there is still something to do."""
        if self._pid != os.getpid():  # a child's copy is not its own
            return True
        with self._finishing:
            if self._released and not self._done:
                self._done = self._give_back()
            return self._done

    def _give_back(self) -> bool:
        try:
            self.path.unlink()
        except FileNotFoundError:
            if not self.path.parent.parent.exists():
                return False  # the store is unplugged
            log.warning("the lock on %s was taken over while this process rested", self.key)
        except OSError as error:
            log.warning("the lock on %s cannot be given back yet: %s", self.key, error)
            return False
        with contextlib.suppress(OSError):  # another one has the key already
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
        """Lock a key, or return None if another one is at work on it for the next ``wait`` seconds.

        Look again after locking whether the work is still to be done: the one before may just have finished it.
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
        """Whether somebody has locked a key, be it alive or dead; a quick look that changes nothing."""
        return os.path.lexists(self.root / "claims" / check_key(key))

    def locks(self) -> list[LockInfo]:
        """Return who is at work on what, by key."""
        period = heartbeat()
        return [
            LockInfo(path.parent.name, owner.host, owner.pid, _about(path)[1], not _dead(path, owner, period))
            for path, owner in self.lock_files()
        ]

    def lock_files(self) -> Iterator[tuple[Path, Owner]]:
        """Yield the file and the owner of every lock, by key."""
        with self.guard():
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
        """Take a free key; False if another one was quicker."""
        self.home(lock.path.parent)
        temp = self.scratch()
        os.mkdir(temp)
        try:
            write_file(temp / lock.path.name, lock.content())
            with contextlib.suppress(OSError):  # some file systems do not rename to an empty folder
                lock.path.parent.rmdir()
            os.rename(temp, lock.path.parent)
        except OSError as error:
            if lock.held:  # done, and the reply was lost on the way
                return True
            if error.errno not in _TAKEN:
                raise
            return False
        finally:
            drop_tree(temp)
        return True


def _succeed(path: Path, lock: Lock) -> bool:
    """Take the lock of a dead owner; False if another one was quicker, or the owner came back and gave it back."""
    try:
        os.rename(path, lock.path)
    except FileNotFoundError:
        if not lock.held:  # otherwise it is done, and the reply was lost on the way
            return False
    try:
        lock.renew()
    except OSError:
        lock.release()
        raise
    return True


def _file(folder: Path) -> Path | None:
    """Return the file in the folder of a lock, or None where the key is free."""
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
    """Return host, start and period of a lock and its whole content; unknown where it cannot be read."""
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
    """What we saw of a heartbeat, by our own monotonic clock."""

    name: str
    raw: bytes
    last: float
    rested: float = 0.0


_looks: dict[Path, _Look] = {}  # by the folder of the lock


def _rests(path: Path, period: float) -> bool:
    """Whether a heartbeat has not moved for long enough. One gap between two looks counts for one period at most.

    So a machine that was frozen as a whole does not take its neighbours' locks at the first look after it.
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
