"""Who owns a lock or a temporary file, and whether that process is still alive."""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """One process.

    Attributes:
        token: random and unique; changes with a fork.
        host: for people.
        machine: two process ids can be compared if this is equal: a hash of the boot and of the process-id namespace;
            empty if the system does not tell, so that no process is taken for one of this machine by mistake.
        pid: process id.
        started: when the process started, in ticks of the kernel since the boot, so that a reused id is noticed.
    """

    token: str
    host: str
    machine: str
    pid: int
    started: int

    def alive(self) -> bool | None:
        """Whether the process is alive; None if only its heartbeat can tell (on another machine, or stopped)."""
        if not self.machine or self.machine != machine():
            return None
        state = process_state(self.pid)
        if state is None or state[1] != self.started or state[0] in "ZXx":
            return False
        return None if state[0] in "Tt" else True

    @property
    def label(self) -> str:
        """The beginning of the process's temporary names; :func:`owner_of` reads it."""
        return f"{self.token}.{self.machine}.{self.pid}.{self.started}"


def owner_of(name: str) -> Owner | None:
    """Return the owner of a temporary name, or None if the name does not contain one."""
    parts = name.split(".")
    if len(parts) < 5 or not (parts[2].isdecimal() and parts[3].isdecimal()):
        return None
    return Owner(parts[0], "", parts[1], int(parts[2]), int(parts[3]))


@cache
def machine() -> str:
    """Return an identifier that is equal for all processes that see the same process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        seen = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
    return hashlib.sha256(seen.encode()).hexdigest()[:16]


def process_state(pid: int) -> tuple[str, int] | None:
    """Return the state letter and the start time of a process, or None if there is no such process (Linux only)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().decode("ascii", "replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold spaces and brackets
    return fields[0], int(fields[19])


def me() -> Owner:
    """Return this process."""
    return _owner(os.getpid())


@cache
def _owner(pid: int) -> Owner:
    state = process_state(pid)
    return Owner(uuid.uuid4().hex, socket.gethostname(), machine(), pid, state[1] if state else 0)
