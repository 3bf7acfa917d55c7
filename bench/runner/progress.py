"""Progress for people: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.errors import plain
from bench.runner.estimates import Estimate
from bench.runner.jobs import CAUSE, Event, Job

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_PAUSE = 10.0  # seconds between plain lines that only give counts
ENDS = ("found", "done", "n/a", "failed")


class Tally:
    """What has happened so far, and how long the rest may take."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.counts = {kind: dict.fromkeys(ENDS, 0) for kind in ("victim", "cell")}
        self.total = {kind: sum(job.kind == kind for job in jobs) for kind in ("victim", "cell")}
        self.left = {kind: sum(job.cost for job in jobs if job.kind == kind) for kind in ("victim", "cell")}
        self.running: dict[str, Job] = {}
        self.workers = 0  # most jobs that ran at once
        self.estimate = Estimate()
        self._ended: set[str] = set()

    def add(self, event: Event) -> None:
        """Take note of an event."""
        job = event.job
        if job is None:
            return
        if event.kind == "start":
            self.running[job.key] = job
            self.workers = max(self.workers, len(self.running))
            return
        self.running.pop(job.key, None)
        if event.kind in ENDS and job.key not in self._ended:
            self._ended.add(job.key)
            self.counts[job.kind][event.kind] += 1
            self.left[job.kind] -= job.cost
            if event.kind == "done" and event.seconds is not None:
                self.estimate.observe(job, event.seconds)

    def _of(self, kind: str) -> str:
        """Say how many jobs of a kind have ended, and how many of these in another way than well."""
        ways = [f"{count} {way}" for way in ("failed", "n/a") if (count := self.counts[kind][way])]
        return f"{self.ended(kind)}/{self.total[kind]}" + (f" ({', '.join(ways)})" if ways else "")

    def ended(self, kind: str) -> int:
        """Return how many jobs of a kind need no more work."""
        return sum(self.counts[kind].values())

    @property
    def seconds_left(self) -> float | None:
        """The estimated rest; None while nothing has been measured."""
        left = {kind: max(0.0, cost) for kind, cost in self.left.items() if self.ended(kind) < self.total[kind]}
        if not left:
            return 0.0
        if not self.workers or not self.estimate.knows_something:
            return None
        return sum(self.estimate.seconds(kind, cost) for kind, cost in left.items()) / self.workers

    def line(self) -> str:
        """Return the state in words."""
        left = self.seconds_left
        parts = [f"{kind}s {self._of(kind)}" for kind in ("cell", "victim")] + [f"{len(self.running)} running"]
        if left:
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress(jobs: Sequence[Job]) -> Iterator[Callable[[Event], None]]:
    """Yield a function that takes the events of a run and shows them on standard error."""
    from rich.console import Console

    tally, console = Tally(jobs), Console(stderr=True)
    if console.is_terminal:
        with _live(tally, console) as show:
            yield show
    else:
        yield _plain(tally, console)
    console.print(tally.line(), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _live(tally: Tally, console: Console) -> Iterator[Callable[[Event], None]]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True) as live:
        bar = live.add_task(tally.line(), total=sum(tally.total.values()))

        def show(event: Event) -> None:
            tally.add(event)
            if text := _worth_a_line(event):
                live.console.print(text, markup=False, highlight=False)
            now = ", ".join(job.label for job in list(tally.running.values())[:2])
            live.update(
                bar, completed=sum(map(tally.ended, tally.total)), description=plain(f"{tally.line()}  {now}")[:160]
            )

        yield show


def _plain(tally: Tally, console: Console) -> Callable[[Event], None]:
    last = time.monotonic()

    def show(event: Event) -> None:
        nonlocal last
        tally.add(event)
        text = _worth_a_line(event)
        if event.kind == "done" and event.job is not None and event.job.kind == "victim":
            text = plain(f"trained: {event.job.label} in {duration(event.seconds or 0.0)}")
        if not text and event.kind in ENDS and time.monotonic() - last > PLAIN_PAUSE:
            text = tally.line()
        if text:
            last = time.monotonic()
            clock = time.strftime("%H:%M:%S", time.localtime(event.when))
            console.print(f"{clock} {text}", markup=False, highlight=False, soft_wrap=True)

    return show


def _worth_a_line(event: Event) -> str:
    if event.job is None:
        return plain(event.text)
    if event.kind == "lost":
        return plain(f"{event.job.label}: {event.text}; it is tried once more")
    news = event.kind == "failed" and not event.text.startswith(CAUSE)  # otherwise the victim's line has said it
    return plain(f"failed: {event.job.label}: {event.text}") if news else ""
