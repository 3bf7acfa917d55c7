"""What the runner is given and what it says: jobs, events and the summary."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from bench.store import Store

Kind = Literal["victim", "cell"]
Outcome = Literal["done", "n/a"]
CAUSE = "its victim failed"  # how the error of a job begins that was never tried
EventKind = Literal["found", "start", "done", "n/a", "failed", "held", "lost", "note"]


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do once: train a victim, or make the record of a cell.

    Attributes:
        key: 64 hexadecimal digits; the store knows a victim's artifact or a cell's record by it.
        kind: a victim is there when the store has its artifact, a cell when it has its record.
        needs: keys of the victims that have to be there first. The first one decides on which worker a cell likes
            to run: the one that has this victim in memory.
        cost: estimated seconds; measured ones take its place where there are any.
        label: words for people.
        payload: what ``execute`` needs to know; small, and it can be pickled.
    """

    key: str
    kind: Kind
    needs: tuple[str, ...] = ()
    cost: float = 1.0
    label: str = ""
    payload: Any = None


@dataclass
class Worker:
    """Where a job runs.

    Attributes:
        device: ``cpu`` or ``cuda``; a GPU is pinned by the environment, so ``cuda`` is always the right one.
        slot: name of the worker, for people.
        threads: how many cores are its own.
        cache: what a job wants to keep for the next one in this process.
    """

    device: str = "cpu"
    slot: str = ""
    threads: int = 1
    cache: dict[str, Any] = field(default_factory=dict)


Execute = Callable[[Job, "Store", Worker], Outcome]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        kind: ``found``: it was there, or another runner made it; ``held``: another runner is at work on it; ``lost``:
            its worker died and it will be tried once more; ``note``: only the text counts.
        job: None for a note.
        seconds: how long the job took, where that was measured.
        text: the error of a failure, or the note.
    """

    kind: EventKind
    job: Job | None = None
    worker: str = ""
    seconds: float | None = None
    text: str = ""
    when: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Summary:
    """How many jobs ended in which way.

    Attributes:
        done: made in this run, by this runner or by another one on the same store.
        failed: failed now or before.
        skipped: finished before the run began.
        not_applicable: combinations that make no sense; their records say why.
        seconds: of the run.
    """

    done: int
    failed: int
    skipped: int
    not_applicable: int
    seconds: float
