"""Imports a third party's code so that, whatever it does, the rest goes on and standard output stays ours."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from bench.errors import RequestError

log = logging.getLogger(__name__)
T = TypeVar("T")
PATIENCE = 5.0  # seconds of silence, after which a line says what is being waited for
LONGEST = 300  # characters of the reason


class LeftOut(Exception):
    """Code of a third party could not be loaded; the message is one line and says why."""


def limit() -> float:
    """Return how many seconds an import may take: ``DOORBENCH_PLUGIN_SECONDS``, 60 by default."""
    text = os.environ.get("DOORBENCH_PLUGIN_SECONDS", "60")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise RequestError(f"DOORBENCH_PLUGIN_SECONDS={text!r} is not a number of seconds above 0.")
    return seconds


class _Import(threading.Thread, Generic[T]):
    """A thread that can be left behind when it hangs; it does not keep the process alive."""

    def __init__(self, load: Callable[[], T]) -> None:
        super().__init__(name="doorbench plugin", daemon=True)
        self._load = load
        self.result: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result.append(self._load())
        except BaseException as error:  # also SystemExit: importing is no reason to end the program
            self.error = error


def loaded(load: Callable[[], T], what: str) -> T:
    """Return what a function returns that imports a third party's code; what it prints goes to standard error.

    Args:
        load: the function.
        what: words for it, such as ``plugin x of y``.

    Raises:
        LeftOut: it raised something, wanted to end the program, or took longer than :func:`limit`.
    """
    seconds, thread = limit(), _Import(load)
    with _output_to_standard_error():
        thread.start()
        thread.join(min(PATIENCE, seconds))
        if thread.is_alive() and seconds > PATIENCE:
            log.warning("%s is still being imported; it is left out after %g seconds", what, seconds)
            thread.join(seconds - PATIENCE)
    if thread.is_alive():
        raise LeftOut(f"its import took longer than {seconds:g} seconds (DOORBENCH_PLUGIN_SECONDS)")
    if thread.error is not None:
        message = " ".join(str(thread.error).split())
        raise LeftOut(f"{type(thread.error).__name__}: {message}".rstrip(": ")[:LONGEST]) from thread.error
    return thread.result[0]


@contextlib.contextmanager
def _output_to_standard_error() -> Iterator[None]:
    """Let what Python code and what other code prints go to standard error for the moment."""
    sys.stdout.flush()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # one of the two is closed
            kept = os.dup(1)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 1)
            os.dup2(2, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield
