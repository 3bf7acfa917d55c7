"""Progress for people: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from bench.runner.jobs import Event, Job

ENDS = {"found", "done", "n/a", "failed"}


@dataclass
class Tally:
    """What has happened so far, and how long the rest may take.

    Attributes:
        total: number of jobs.
        cost: estimated seconds of all jobs that were not there at the start.
    """

    total: int
    started: float = field(default_factory=time.monotonic)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ENDS, 0))
    running: dict[str, Job] = field(default_factory=dict)
    left: float = 0.0
    worked: float = 0.0

    def add(self, event: Event) -> None:
        """Take note of an event."""
        if event.job is None:
            return
        if event.kind == "start":
            self.running[event.job.key] = event.job
            return
        self.running.pop(event.job.key, None)
        if event.kind in ENDS:
            self.counts[event.kind] += 1
            self.left -= event.job.cost
            if event.kind in {"done", "n/a"}:
                self.worked += event.job.cost

    @property
    def ended(self) -> int:
        """Jobs that need no more work."""
        return sum(self.counts.values())

    @property
    def time_left(self) -> str:
        """The estimated rest in words: estimates scaled by how good they were so far."""
        if self.worked <= 0 or self.left <= 0:
            return "?" if self.left > 0 else "0 s"
        return duration((time.monotonic() - self.started) * self.left / self.worked)

    def line(self) -> str:
        """Return the state in words."""
        made = self.counts["done"] + self.counts["n/a"]
        return (
            f"{self.ended}/{self.total} finished ({self.counts['found']} were there, {made} made), "
            f"{len(self.running)} running, {self.counts['failed']} failed, {self.time_left} left"
        )


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress(jobs: Sequence[Job]) -> Iterator[Callable[[Event], None]]:
    """Yield a function that is told the events of a run and shows them."""
    tally = Tally(len(jobs), left=sum(job.cost for job in jobs))
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain(tally)
        sys.stderr.write(f"{tally.line()}\n")
        return
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as live:
        bar = live.add_task(tally.line(), total=tally.total)

        def show(event: Event) -> None:
            tally.add(event)
            if event.kind in {"failed", "lost"} and event.job is not None:
                live.console.print(f"{event.kind}: {escape(event.job.label)}: {escape(event.text)}")
            now = ", ".join(job.label for job in list(tally.running.values())[:2])
            live.update(bar, completed=tally.ended, description=escape(f"{tally.line()}  {now}"[:160]))

        yield show
    console.print(tally.line())


def _plain(tally: Tally) -> Callable[[Event], None]:
    def show(event: Event) -> None:
        tally.add(event)
        if event.job is not None and event.kind in {"done", "failed", "lost"}:
            seconds = "" if event.seconds is None else f" in {duration(event.seconds)}"
            text = f": {event.text}" if event.text else ""
            sys.stderr.write(f"[{tally.ended}/{tally.total}] {event.kind}{seconds}: {event.job.label}{text}\n")
            sys.stderr.flush()

    return show
