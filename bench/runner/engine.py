"""The loop: give jobs to slots, take results, and survive dying workers, other runners and Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from bench.errors import RequestError
from bench.runner.jobs import Event, Execute, Job, Summary
from bench.runner.schedule import Schedule
from bench.runner.slots import Slot, death, make_slots
from bench.runner.worker import Result, failure, present
from bench.store import Store

TRIES = 2  # a job whose worker died is tried once more, elsewhere if there is an elsewhere
LOOK_AGAIN = 2.0  # seconds between looks at what other runners hold


def run(
    jobs: Sequence[Job],
    *,
    store: Store,
    execute: Execute,
    engine: str = "loky",
    workers: int | None = None,
    slots_per_gpu: int = 1,
    device: str = "auto",
    time_limit: float | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Summary:
    """Do every job whose result is not in the store yet.

    A job that failed before counts as failed and is not tried again: drop its failure first. Ctrl-C ends the workers
    and raises ``KeyboardInterrupt``; what was finished is in the store.

    Args:
        jobs: what is to be done; keys name results in the store.
        store: shared with other runners, if there are any.
        execute: does one job and writes its result; a module-level function.
        engine: ``serial`` (this process) or ``loky`` (processes).
        workers: processes; one a GPU slot by default, or one.
        slots_per_gpu: processes that share a GPU.
        device: ``auto``, ``cpu`` or ``cuda``.
        time_limit: seconds that a job may take; its process is killed then (not with ``serial``).
        on_event: is told what happens.

    Raises:
        RequestError: the request is wrong, or the store is full, read-only or gone.
    """
    slots = make_slots(engine=engine, workers=workers, slots_per_gpu=slots_per_gpu, device=device)
    return _Run(jobs, store, execute, slots, time_limit, on_event or (lambda event: None)).go()


@dataclass
class _Flight:
    """A job in a slot."""

    job: Job
    slot: Slot
    started: float = field(default_factory=time.monotonic)


class _Run:
    def __init__(
        self,
        jobs: Sequence[Job],
        store: Store,
        execute: Execute,
        slots: list[Slot],
        time_limit: float | None,
        tell: Callable[[Event], None],
    ) -> None:
        self.store, self.execute, self.slots = store, execute, slots
        self.time_limit, self.tell = time_limit, tell
        self.schedule = Schedule(jobs)
        self.jobs = {job.key: job for job in jobs}
        self.flights: dict[Future[Result], _Flight] = {}
        self.deaths: dict[str, int] = {}
        self.counts = {"done": 0, "failed": 0, "skipped": 0, "n/a": 0}
        self.looked = 0.0

    def go(self) -> Summary:
        started = time.monotonic()
        try:
            self._skip_finished()
            while len(self.schedule):
                self._fill()
                self._take()
        finally:
            for slot in self.slots:
                slot.kill()
        counts = self.counts
        seconds = time.monotonic() - started
        return Summary(counts["done"], counts["failed"], counts["skipped"], counts["n/a"], seconds)

    def _skip_finished(self) -> None:
        """Drop what the store has, and what failed before."""
        records, artifacts = self.store.keys_of_records(), self.store.keys_of_artifacts()
        failures = self.store.keys_of_failures()
        for key, job in self.jobs.items():
            if key in (artifacts if job.kind == "victim" else records) and present(job, self.store):
                self.counts["skipped"] += 1
                self.schedule.finished(key)
                self.tell(Event("found", job))
        for key, job in self.jobs.items():
            if key in failures and self.schedule.knows(key):
                self._failed(job, (self.store.failure(key) or {}).get("error", "failed before"))

    def _fill(self) -> None:
        """Give every free slot a job."""
        busy = {id(flight.slot) for flight in self.flights.values()}
        for slot in self.slots:
            job = None if id(slot) in busy else self.schedule.next(slot.name)
            if job is not None:
                self.tell(Event("start", job, slot.name))
                flight = _Flight(job, slot)
                self.flights[slot.submit(job, self.store, self.execute)] = flight

    def _take(self) -> None:
        """Wait for results and act on them."""
        if self.flights:
            finished, _ = wait(self.flights, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in finished:
                self._landed(self.flights.pop(future), future)
            self._end_overdue()
        elif self.schedule.postponed_jobs:
            time.sleep(0.2)
        if self.schedule.postponed_jobs and time.monotonic() - self.looked > LOOK_AGAIN:
            self.looked = time.monotonic()
            for job in self.schedule.postponed_jobs:
                self.schedule.resume(job.key)  # the next worker looks whether it is there, or still held

    def _landed(self, flight: _Flight, future: Future[Result]) -> None:
        job, error = flight.job, future.exception()
        if isinstance(error, RequestError):
            raise error  # the store is full, read-only or gone: nothing can go on
        if error is not None:
            self._died(flight, death(error))
            return
        result = future.result()
        if result.ending == "held":
            self.schedule.postponed(job.key)
            self.tell(Event("held", job, flight.slot.name))
        elif result.ending == "failed":
            self._failed(job, result.error, result.seconds)
        else:
            self.counts["n/a" if result.ending == "n/a" else "done"] += 1
            self.schedule.finished(job.key)
            self.tell(Event(result.ending, job, flight.slot.name, result.seconds))

    def _died(self, flight: _Flight, how: str, *, again: bool = True) -> None:
        """The worker is gone; its job is tried once more or has failed."""
        job = flight.job
        flight.slot.kill()
        self.schedule.left(flight.slot.name)
        self.deaths[job.key] = self.deaths.get(job.key, 0) + 1
        if again and self.deaths[job.key] < TRIES:
            self.schedule.resume(job.key)
            self.tell(Event("lost", job, flight.slot.name, text=how))
            return
        self.store.put_failure(job.key, failure(job, how, seconds=time.monotonic() - flight.started))
        self._failed(job, how)

    def _end_overdue(self) -> None:
        if self.time_limit is None:
            return
        for future, flight in list(self.flights.items()):
            if time.monotonic() - flight.started > self.time_limit:
                del self.flights[future]
                self._died(flight, f"time limit of {self.time_limit:g} seconds", again=False)

    def _failed(self, job: Job, error: str, seconds: float | None = None) -> None:
        """Count a failure and those that depended on it; each gets a row that names the cause."""
        self.counts["failed"] += 1
        self.tell(Event("failed", job, seconds=seconds, text=error))
        for dropped in self.schedule.failed(job.key):
            message = f"its victim failed: {error}"
            self.store.put_failure(dropped.key, failure(dropped, message))
            self.counts["failed"] += 1
            self.tell(Event("failed", dropped, text=message))
