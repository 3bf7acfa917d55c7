"""A runner's patience with its store: it waits for one that has vanished, and asks again where a call failed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from bench.errors import RequestError
from bench.runner.jobs import Event
from bench.store import Store, StoreGone, StoreTrouble

T = TypeVar("T")
PAUSE = 0.2  # seconds between two looks at a store that has vanished


class Patience:
    """Asks a store, and waits for it.

    Args:
        store: of the run.
        seconds: to wait for a store that has vanished.
        notify: called with an event when the waiting begins.
    """

    def __init__(self, store: Store, seconds: float, notify: Callable[[Event], None]) -> None:
        self._store, self._seconds, self._notify = store, seconds, notify
        self._gone_since: dict[str, float] = {}  # by slot, "" for the runner itself: when it first missed the store

    def ask(self, question: Callable[[], T]) -> T:
        """Return what a call of the store returns; a call that failed is made once more.

        Raises:
            StoreError: the store is full, read-only, another one, still in trouble, or gone for too long.
        """
        tried = False
        while True:
            try:
                with self._store.guard():
                    answer = question()
            except StoreGone as error:
                self.wait(error, "")
            except StoreTrouble as error:
                if tried:
                    raise
                tried = True
                self._notify(Event("note", text=f"{error} It is tried once more."))
                time.sleep(PAUSE)
            else:
                self.reached("")
                return answer

    def reached(self, who: str) -> None:
        """Take note that a slot, or "" for this process, has reached the store."""
        self._gone_since.pop(who, None)

    def wait(self, error: StoreGone, who: str) -> None:
        """Return when the store is back; give up when ``who``, a slot or "" for this process, missed it too long."""
        now = time.monotonic()
        if who not in self._gone_since:
            self._gone_since[who] = now
            self._notify(Event("note", text=f"{error} Waiting up to {self._seconds:g} seconds for it."))
        while True:
            if time.monotonic() - self._gone_since[who] > self._seconds:
                where = f" for {who}" if who and self._is_back() else ""
                raise RequestError(f"{error}{where} What was finished is kept; run the same again when it is back.")
            time.sleep(PAUSE)
            if self._is_back():
                return

    def _is_back(self) -> bool:
        with contextlib.suppress(StoreGone):
            self._store.check_connected()
            return True
        return False
