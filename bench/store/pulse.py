"""The one thread of a process that renews the heartbeat of every lock it holds."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Protocol

log = logging.getLogger(__name__)
BEATS_PER_PERIOD = 2


class Beating(Protocol):
    """What has a heartbeat."""

    key: str
    period: float

    def renew(self) -> None:
        """Raise the counter."""

    def finish(self) -> bool:
        """Try again to remove a released lock; return True when nothing is left to do."""


class Pulse:
    """Renews every lock twice per period. The thread ends with the last lock and never keeps a process alive."""

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)  # threads do not survive a fork, nor do its locks

    def _forget(self) -> None:
        self._wake = threading.Condition()
        self._beating: dict[int, Beating] = {}
        self._thread: threading.Thread | None = None

    def add(self, lock: Beating) -> None:
        """Renew a lock from now on."""
        with self._wake:
            self._beating[id(lock)] = lock
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="doorbench heartbeat", daemon=True)
                self._thread.start()
            self._wake.notify()

    def remove(self, lock: Beating) -> None:
        """Stop renewing a lock."""
        with self._wake:
            self._beating.pop(id(lock), None)
            self._wake.notify()

    def _run(self) -> None:
        due = 0.0
        while True:
            with self._wake:
                while True:
                    if not self._beating:
                        self._thread = None
                        return
                    pause = min(lock.period for lock in self._beating.values()) / BEATS_PER_PERIOD
                    now = time.monotonic()
                    due = min(due, now + pause) if due else now + pause  # a shorter period may have joined
                    if now >= due:
                        break
                    self._wake.wait(due - now)
                beating = list(self._beating.values())
            due = 0.0
            for lock in beating:
                self._beat(lock)

    def _beat(self, lock: Beating) -> None:
        try:
            if lock.finish():
                self.remove(lock)
            else:
                lock.renew()
        except OSError as error:
            log.warning("the heartbeat of %s could not be renewed: %s", lock.key, error)


pulse = Pulse()
