"""How every file that a user asks for is written: beside its place, and renamed once it is whole.

So a full disk, or a program that is killed, leaves what was there before as it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import RequestError
from bench.store.layout import walk
from bench.store.troubles import is_full


class NotWritten(RequestError):
    """An output could not be written; what was there before is as it was."""


@dataclass
class _Pending:
    """Files that are whole and wait for the others of their kind to be so, in the order in which they were written."""

    moves: list[tuple[Path, Path]] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)


_pending: ContextVar[_Pending | None] = ContextVar("pending", default=None)


def write(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, in one step.

    Raises:
        NotWritten: in one line, which says why.
    """
    with beside(path) as temp:
        temp.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield the name of a file to write, in the same folder and with the same ending; it then takes the name ``path``.

    The folder is made if it is not there. Where ``path`` is a link, what it points to is replaced; a pipe or a device
    is written to as it is.

    Raises:
        NotWritten: it cannot be written.
    """
    with _in_words(path):
        target, mode = _resolved(path)
        if mode is not None and not stat.S_ISREG(mode):
            if stat.S_ISDIR(mode):
                raise NotWritten(f"{path} is a folder; name a file.")
            yield path
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temp = target.with_name(f".{uuid.uuid4().hex}{target.suffix}")
        try:
            yield temp
            _sync(temp)
            if mode is not None:
                with contextlib.suppress(OSError):  # not every file system has permissions
                    temp.chmod(stat.S_IMODE(mode))
            if (pending := _pending.get()) is not None:
                pending.moves.append((temp, target))
            else:
                os.replace(temp, target)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise


def remove(path: Path) -> None:
    """Remove a file, if it is there; with the files of :func:`all_or_none` only once all of them are whole.

    Raises:
        NotWritten: it cannot be removed.
    """
    if (pending := _pending.get()) is not None:
        pending.removed.append(path)
        return
    with _in_words(path):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Let the files that are written inside appear together at the end, or none of them where one fails."""
    if _pending.get() is not None:
        yield
        return
    pending = _Pending()
    token = _pending.set(pending)
    try:
        yield
        for temp, target in pending.moves:
            with _in_words(target):
                os.replace(temp, target)
        for path in pending.removed:
            with _in_words(path):
                path.unlink(missing_ok=True)
    finally:
        _pending.reset(token)
        for temp, _ in pending.moves:
            temp.unlink(missing_ok=True)


def refuse_file(path: Path) -> None:
    """Refuse a file that could not be written, before anything is computed for it; nothing is made.

    Raises:
        NotWritten: it is a folder, or its folder can neither be made nor be written to.
    """
    with _in_words(path):
        target, mode = _resolved(path)
        if mode is None:
            _refuse_inside(path, target.parent)
        elif stat.S_ISDIR(mode):
            raise NotWritten(f"{path} is a folder; name a file.")
        elif not os.access(path, os.W_OK) or (stat.S_ISREG(mode) and not os.access(target.parent, os.W_OK)):
            raise NotWritten(f"{path} cannot be written: permission denied.")


def refuse_folder(path: Path) -> None:
    """Refuse a folder that could not be written to, before anything is computed for it; nothing is made.

    Raises:
        NotWritten: it is a file, or can neither be made nor be written to.
    """
    with _in_words(path):
        _refuse_inside(path, _resolved(path)[0])


def _refuse_inside(path: Path, folder: Path) -> None:
    missing: list[str] = [path.name]
    while not os.path.lexists(folder):
        missing.append(folder.name)
        folder = folder.parent
    if not folder.is_dir():
        raise NotWritten(f"{path} cannot be written: {folder} is a file, not a folder.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotWritten(f"{path} cannot be written: no permission to write in {folder}.")
    if max(len(os.fsencode(name)) for name in missing) > os.pathconf(folder, "PC_NAME_MAX"):
        raise NotWritten(f"{str(path)[:80]} cannot be written: the name is too long.")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there.

    Raises:
        NotWritten: it cannot be made.
    """
    with _in_words(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``path``, and of a folder that is there, unless something fails.

    Raises:
        NotWritten: it cannot be written.
    """
    with _in_words(path):
        target, _ = _resolved(path)
    make_folder(target.parent)
    temp = target.with_name(f".{uuid.uuid4().hex}")
    token = _pending.set(None)
    try:
        with _in_words(path):
            temp.mkdir()
        with _in_words(path, only_below=temp):
            yield temp
        with _in_words(path):
            for folder, _, names in walk(temp):
                for name in names:
                    _sync(Path(folder, name))
            _exchange(temp, target)
    finally:
        _pending.reset(token)
        shutil.rmtree(temp, ignore_errors=True)


def _exchange(temp: Path, target: Path) -> None:
    """Let a folder take the place of another one, if there is one; if that fails, the other one stays."""
    before = target.with_name(f".{uuid.uuid4().hex}")
    if os.path.lexists(target):
        target.rename(before)
    try:
        temp.rename(target)
    except OSError:
        if before.exists():
            before.rename(target)
        raise
    shutil.rmtree(before, ignore_errors=True)


@contextlib.contextmanager
def _in_words(path: Path, *, only_below: Path | None = None) -> Iterator[None]:
    """Turn an error of the file system into one of a line that names what was asked for.

    Args:
        path: that was asked for.
        only_below: leave errors alone that name no file in this folder.
    """
    try:
        yield
    except NotWritten:
        raise
    except Exception as error:
        named = getattr(error, "filename", None)
        ours = isinstance(error, OSError) and not isinstance(error, BrokenPipeError)
        if only_below is not None:
            ours = ours and isinstance(named, str | Path) and Path(named).is_relative_to(only_below)
        if not (ours or is_full(error)):
            raise
        why = "no space is left" if is_full(error) else getattr(error, "strerror", None) or error
        raise NotWritten(f"{path} cannot be written: {why}; what was there before is as it was.") from error


def _resolved(path: Path) -> tuple[Path, int | None]:
    """Return what a path leads to, and its mode if it is there."""
    mode = None
    try:
        with contextlib.suppress(FileNotFoundError):
            mode = path.stat().st_mode
        return Path(os.path.realpath(path)), mode
    except ValueError as error:  # a NUL in it
        raise NotWritten(f"{str(path)!r} cannot be the name of a file: {error}.") from None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
