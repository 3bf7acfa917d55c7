"""A layer below Python's calls of the system that lets some of them fail on the files of a store, as a bad disk does.

``FAULT_IO`` says how: ``{"root": folder, "rate": 0.03, "log": file, "most": 1000}``. A fault is EIO, ESTALE or ENOSPC.
A write that fails may have written a part, and a rename, link or mkdir that fails may have been done: only its answer
got lost.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import random
from collections.abc import Callable
from typing import Any

CODES = (errno.EIO,) * 6 + (errno.ESTALE,) * 3 + (errno.ENOSPC,)
ONE_PATH = ("mkdir", "listdir", "scandir", "stat", "lstat", "unlink", "utime")
TWO_PATHS = ("rename", "replace", "link")
HANDLES = ("write", "read", "fsync")
MAY_BE_DONE = {"mkdir", "unlink", *TWO_PATHS}


def install() -> None:
    """Let calls of this process fail, if ``FAULT_IO`` says so."""
    if "FAULT_IO" in os.environ:
        Layer(**json.loads(os.environ["FAULT_IO"])).install()


class Layer:
    """Wraps the calls.

    Args:
        root: only calls on what is in this folder fail.
        rate: the share of calls that fail.
        log: a file that gets one line for each fault, with the name of the call.
        most: faults in the log, after which no more are made.
    """

    def __init__(self, root: str, rate: float, log: str, most: int) -> None:
        self.root, self.rate, self.most = root, rate, most
        self.dice = random.Random()
        self.handles: set[int] = set()
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def install(self) -> None:
        """Put the wrappers in place."""
        for name in ONE_PATH + TWO_PATHS:
            setattr(os, name, self._on_paths(name, getattr(os, name)))
        for name in HANDLES:
            setattr(os, name, self._on_handle(name, getattr(os, name)))
        os.open = self._on_open(os.open)  # type: ignore[assignment]
        os.close = self._on_close(os.close)
        builtins.open = io.open = self._on_paths("open", io.open)  # type: ignore[assignment]

    def _fails(self, name: str) -> bool:
        if self.dice.random() >= self.rate:
            return False
        if os.fstat(self.log).st_size >= self.most * 8:
            return False
        REAL_WRITE(self.log, f"{name:7.7}\n".encode())  # 8 bytes
        return True

    def _error(self, path: Any) -> OSError:
        code = self.dice.choice(CODES)
        return OSError(code, os.strerror(code), path if isinstance(path, str) else os.fspath(path))

    def _inside(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and str(os.fspath(path)).startswith(self.root)

    def _on_paths(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            if not self._inside(path) or not self._fails(name):
                return real(path, *arguments, **options)
            if name in MAY_BE_DONE and self.dice.random() < 0.5:
                real(path, *arguments, **options)
            raise self._error(path)

        return call

    def _on_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, *arguments: Any, **options: Any) -> int:
            if not self._inside(path):
                return real(path, *arguments, **options)
            if self._fails("open"):
                raise self._error(path)
            handle = real(path, *arguments, **options)
            self.handles.add(handle)
            return handle

        return call

    def _on_close(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(handle: int) -> None:
            self.handles.discard(handle)
            real(handle)

        return call

    def _on_handle(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(handle: int, *arguments: Any) -> Any:
            if handle not in self.handles or not self._fails(name):
                return real(handle, *arguments)
            if name == "write" and self.dice.random() < 0.5:
                real(handle, bytes(arguments[0])[: len(arguments[0]) // 2])
            code = self.dice.choice(CODES)
            raise OSError(code, os.strerror(code))

        return call


REAL_WRITE = os.write
