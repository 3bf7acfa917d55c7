"""What the runner takes and reports: jobs, events and the summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from bench.store import Store

Kind = Literal["victim", "cell"]
Outcome = Literal["done", "n/a"]
CAUSE = "its victim failed"  # the error of a job that was never tried begins like this
EventKind = Literal["found", "start", "done", "n/a", "failed", "held", "lost", "note"]


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do once: train a victim, or make the record of a cell.

    Attributes:
        key: 64 hexadecimal digits; the store knows a victim's artifact or a cell's record by it.
        kind: a victim is done when the store has its artifact, a cell when the store has its record.
        needs: keys of the victims that have to be in the store first. A cell prefers to run on the worker that has
            the first of them in memory.
        cost: estimated seconds; measured ones replace it as they become known.
        label: words for people.
        payload: what ``execute`` needs to know; small enough to be pickled.
        made_with: versions and fingerprints that are in the key, by name, so that ``execute`` can say in words in what
            another machine differs; jobs share it.
    """

    key: str
    kind: Kind
    needs: tuple[str, ...] = ()
    cost: float = 1.0
    label: str = ""
    payload: Any = None
    made_with: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass
class Worker:
    """Where a job runs.

    Attributes:
        device: ``cpu`` or ``cuda``; a GPU is pinned by the environment, so ``cuda`` is always the right one.
        slot: name of the worker, for people.
        threads: how many cores it may use.
        cache: what a job keeps in memory for the next job in this process.
    """

    device: str = "cpu"
    slot: str = ""
    threads: int = 1
    cache: dict[str, Any] = field(default_factory=dict)


class Refused(Exception):
    """A worker would make something else of a job than its runner means; the message is one line and says why."""


Execute = Callable[[Job, "Store", Worker], Outcome]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        kind: ``found``: the result was in the store, or another runner made it; ``held``: another runner is working on
            the job; ``lost``: its worker died and the job will be tried once more; ``note``: only the text counts.
        job: None for a note.
        seconds: how long the job took, if that was measured.
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
