"""The folder: where files are, how each is written in one step, and what is done with damaged ones."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import shlex
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import platformdirs

from bench.errors import RequestError
from bench.store.documents import Damaged, read_bytes
from bench.store.identity import me
from bench.store.troubles import (
    NO_LINKS,
    READ_ONLY,
    StoreFull,
    StoreGone,
    StoreMissing,
    StoreReadOnly,
    StoreReplaced,
    StoreTrouble,
    is_full,
)

F = TypeVar("F", bound="Folder")
P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)

FORMAT = 1
MARKER = "store.json"
ROOMS = ("records", "failures", "artifacts", "claims", "temp", "damaged", "compact")
ATTEMPTS = 8  # at taking a name from something damaged, while other processes try the same
KEY = re.compile(r"[0-9a-f]{64}")


def check_key(key: str) -> str:
    """Return the key if it is a valid one, so that nothing else ever becomes a path."""
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise ValueError(f"{str(key)[:80]!r} is not a key: 64 of the digits 0-9a-f")
    return key


def default_root() -> Path:
    """Return ``DOORBENCH_STORE``, else the user's cache folder."""
    named = os.environ.get("DOORBENCH_STORE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("doorbench", appauthor=False))


def place_of(root: Path | None) -> Path:
    """Return the absolute path of the store that is meant; None means :func:`default_root`."""
    return Path(os.path.abspath(Path(root or default_root()).expanduser()))


def sync_folder(path: str | Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def guarded(method: Callable[Concatenate[F, P], T]) -> Callable[Concatenate[F, P], T]:
    """Let a method of a store raise no error of the file system, but one of :mod:`bench.store.troubles`."""

    @functools.wraps(method)
    def call(self: F, /, *arguments: P.args, **options: P.kwargs) -> T:
        with self.guard():
            return method(self, *arguments, **options)

    return call


class Folder:
    """A folder that many processes share, possibly over NFS. Open it with a path; None means :func:`default_root`.

    Args:
        root: the path.
        create: whether a store is made where there is none; what only reads must not make one.

    Attributes:
        id: random, written into a store when it is made, so that it is known again; None of a store of former days.

    Raises:
        RequestError: the folder cannot be a store, there is none, or a newer version made it.
    """

    def __init__(self, root: Path | None = None, *, create: bool = True) -> None:
        self.root = place_of(root)
        self.id: str | None = None
        self._seen: tuple[int, ...] | None = None  # device, inode, time of the marker when its id was read; None: never
        if not self._is_there():
            if not create:
                raise StoreMissing(
                    f"there is no store at {self.root}; name one with --store or DOORBENCH_STORE, or make it: "
                    f"doorbench run SUITE --store {shlex.quote(str(self.root))}"
                )
            self._create()
        try:
            self.id, self._seen = self._read_marker(), ()
        except OSError as error:
            raise RequestError(f"{self.root / MARKER} cannot be read: {error.strerror}.") from None
        for room in ROOMS:
            with contextlib.suppress(OSError):  # a read-only store may lack folders that only writers need
                os.mkdir(self.root / room)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r})"

    def _is_there(self) -> bool:
        """Whether there is a marker; what the system cannot tell is not taken for a folder without one."""
        try:
            os.lstat(self.root / MARKER)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError) as error:
            raise RequestError(f"{self.root} cannot be looked at: {getattr(error, 'strerror', error)}.") from None
        return True

    def _create(self) -> None:
        with self.guard():
            try:
                self.root.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise RequestError(f"{self.root} is not a folder, so it cannot be a store; name another one.") from None
            strangers = [n for n in os.listdir(self.root) if n not in ROOMS and not n.startswith(MARKER)]
            if strangers:
                raise RequestError(
                    f"{self.root} is neither empty nor a store ({strangers[0]!r} is there); name another."
                )
            temp = self.root / f"{MARKER}.{uuid.uuid4().hex}"
            write_file(temp, json.dumps({"format": FORMAT, "id": uuid.uuid4().hex}).encode() + b"\n")
            publish(temp, self.root / MARKER)
            sync_folder(self.root)

    def _read_marker(self) -> str | None:
        """Return the id in the marker."""
        try:
            stored = json.loads(read_bytes(self.root / MARKER))
            form, name = stored["format"], stored.get("id")
            if not isinstance(form, int) or not isinstance(name, str | None):
                raise TypeError("its format is no number, or its id no text")
        except (Damaged, ValueError, TypeError, KeyError, AttributeError):
            raise RequestError(f'{self.root / MARKER} is damaged; it should read {{"format": {FORMAT}}}.') from None
        if form > FORMAT:
            raise RequestError(
                f"the store {self.root} has format {form}, made by a newer version; this one knows {FORMAT}: "
                "upgrade doorbench or name another store with --store."
            )
        return name

    def place(self, room: str, key: str, suffix: str = "") -> Path:
        """Return the path of what has a key in one of the rooms."""
        return self.root / room / check_key(key)[:2] / (key + suffix)

    def home(self, path: Path) -> Path:
        """Make the parent folder of ``path``, below a room that exists; a link in the way is refused."""
        folder = self.root
        for depth, part in enumerate(path.parent.relative_to(self.root).parts):
            folder = folder / part
            if depth and not os.path.lexists(folder):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder)
                    sync_folder(folder.parent)
            if not stat.S_ISDIR(os.lstat(folder).st_mode):
                raise RequestError(f"{folder} is a link or a file; a store writes only into folders of its own.")
        return folder

    def scratch(self) -> Path:
        """Return a new name for a temporary file or folder; it contains its owner. Every write begins here.

        Raises:
            StoreGone: the store has vanished.
            StoreReplaced: another one lies in its place.
        """
        self.check_connected()
        return self.home(self.root / "temp" / "x") / f"{me().label}.{uuid.uuid4().hex[:12]}"

    def write_new(self, path: Path, content: bytes) -> bool:
        """Write a file in one step; return False if anything has this name already."""
        self.home(path)
        temp = self.scratch()
        try:
            write_file(temp, content)
            made = publish(temp, path)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
        return made

    def set_aside(self, path: Path, reason: object, *, still_bad: Callable[[Path], bool]) -> None:
        """Move something damaged out of the way, for people to look at; it is neither used nor deleted.

        Another process may have set it aside and rebuilt it since ``path`` was read. So what was moved is checked
        again, and moved back if it is undamaged.
        """
        room = self.root / "damaged"
        target = room / f"{path.parent.parent.name}-{path.name}-{uuid.uuid4().hex[:8]}"
        try:
            self.home(target)
            os.rename(path, target)
        except FileNotFoundError:
            return
        except (OSError, RequestError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            log.error("%s is damaged (%s) and is not used; it cannot be set aside: %s", path, reason, why)
            return
        if still_bad(target):
            log.error("%s was damaged (%s); set aside as %s, to be made again", path, reason, target)
        else:
            with contextlib.suppress(OSError):  # a third process may have made it again meanwhile
                os.rename(target, path) if target.is_dir() else publish(target, path)

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Turn an error of the file system that concerns the whole store into an error of one line."""
        try:
            yield
        except OSError as error:
            if is_full(error):
                raise StoreFull(
                    f"no space is left in the store {self.root}; nothing in it is damaged. Free some with "
                    "`doorbench store gc` or name another store with --store."
                ) from error
            if error.errno in READ_ONLY:
                raise StoreReadOnly(f"the store {self.root} cannot be written ({error.strerror}).") from error
            self.check_connected(error)
            raise StoreTrouble(f"the store {self.root} is in trouble: {error.strerror or error}.") from error

    def check_connected(self, error: BaseException | None = None) -> None:
        """Make sure that the store is still there: a disconnected one must not look like an empty one.

        Raises:
            StoreGone: its folder has vanished.
            StoreReplaced: another store lies there.
        """
        try:
            status = os.stat(self.root / MARKER)
            seen = (status.st_dev, status.st_ino, status.st_mtime_ns)
            same = self._seen in (None, seen) or self._read_marker() == self.id
        except OSError:
            raise StoreGone(f"the store {self.root} is gone; is its disk or network folder connected?") from error
        if not same:
            raise StoreReplaced(
                f"another store lies at {self.root} now, with another id in its {MARKER}; is the right disk or "
                "network folder connected? Nothing was written to it."
            ) from error
        self._seen = None if self._seen is None else seen

    def holds(self, path: object) -> bool:
        """Whether a path, as an error of the system names it, is inside the store."""
        return isinstance(path, str | Path) and Path(path).is_relative_to(self.root)


def walk(path: Path, *, topdown: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk as ``os.walk`` does, which leaves a folder out in silence if it cannot be read; here its error is raised."""

    def unreadable(error: OSError) -> None:
        raise error

    return os.walk(path, topdown, unreadable)


def write_file(path: Path, content: bytes) -> None:
    """Write a new file and force it to the disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    except BaseException:
        os.close(handle)
        path.unlink(missing_ok=True)
        raise
    os.close(handle)


def publish(temp: Path, target: Path) -> bool:
    """Give a finished file its final name unless that is taken; ``temp`` does not exist afterwards."""
    try:
        os.link(temp, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # No hard links on this file system (some FUSE and Windows shares). Two writers at once would write the same
        # content for a key, so it does not matter which rename comes last.
        if os.path.lexists(target):
            return False
        os.rename(temp, target)
        return True
    finally:
        temp.unlink(missing_ok=True)
    return True


def drop_tree(path: Path) -> None:
    """Remove a folder or file that no process uses any more; links are removed, not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def tree_bytes(path: Path) -> int:
    """Return the size of a file, or of all files below a folder."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in walk(path) for name in names)
