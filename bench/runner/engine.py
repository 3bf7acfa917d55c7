"""The loop: give jobs to slots, take results, and survive dying workers, other runners, a lost store and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import TypeVar

from bench.errors import RequestError, unknown
from bench.runner.devices import check_device
from bench.runner.estimates import Estimate
from bench.runner.jobs import CAUSE, Event, Execute, Job, Summary
from bench.runner.schedule import Schedule
from bench.runner.slots import Local, Pool, Slot, death, local
from bench.runner.survey import survey
from bench.runner.worker import Result, failure, one_line, present
from bench.store import Store, StoreGone, heartbeat

T = TypeVar("T")
ENGINES = ("serial", "loky", "dask")
TRIES = 2  # a job whose worker died is tried once more, in another process
LONELY = 60.0  # seconds without any worker after which people are told
GRACE = 2.0  # seconds that jobs get to give their locks back before they are killed


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
    scheduler: str | None = None,
    patience: float = 60.0,
    on_event: Callable[[Event], None] | None = None,
) -> Summary:
    """Do every job whose result is not in the store yet, and that something still needs.

    A job that failed before counts as failed and is not tried again: drop its failure first. Ctrl-C ends the workers
    and raises ``KeyboardInterrupt``; what was finished is in the store. SIGTERM does the same.

    Args:
        jobs: what is to be done; keys name results in the store.
        store: shared with other runners, if there are any.
        execute: does one job and writes its result; a module-level function.
        engine: ``serial`` (this process), ``loky`` (processes here) or ``dask`` (processes anywhere).
        workers: processes; one a GPU slot by default, or one. A Dask scheduler has its own.
        slots_per_gpu: processes that share a GPU.
        device: ``auto``, ``cpu`` or ``cuda``.
        time_limit: seconds that a job may take; its process is killed then. With ``serial`` it is interrupted, which
            works only when its code returns to Python now and then.
        scheduler: for ``dask``: an address such as ``tcp://host:8786``, or a cluster file; see docs/cluster.md.
        patience: seconds to wait for a store that has vanished.
        on_event: is told what happens.

    Raises:
        RequestError: the request is wrong, or the store is full, read-only or gone.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if time_limit is not None and time_limit <= 0:
        raise RequestError(f"a time limit of {time_limit:g} seconds leaves no time; give more than 0.")
    if scheduler is not None and engine != "dask":
        raise RequestError(f"a scheduler is for the engine 'dask', not for {engine!r}.")
    open_pool: Callable[[], Pool]
    if engine == "dask":
        from bench.runner.cluster import connect, read_request

        check_device(device)
        open_pool = partial(connect, read_request(scheduler, workers), device)
    else:
        slots = local(engine=engine, workers=workers, slots_per_gpu=slots_per_gpu, device=device, time_limit=time_limit)
        open_pool = partial(Local, slots)
    loop = _Run(jobs, store, execute, open_pool, time_limit, patience, on_event or (lambda event: None))
    with _terminable():
        return loop.go()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM, with which batch systems announce the end, do what Ctrl-C does, and two of them what one does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # the second made a wait lose its lock
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


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
        open_pool: Callable[[], Pool],
        time_limit: float | None,
        patience: float,
        tell: Callable[[Event], None],
    ) -> None:
        self.all = jobs
        self.jobs = {job.key: job for job in jobs}
        self.store, self.execute, self.open_pool = store, execute, open_pool
        self.pool: Pool = Local([])
        self.time_limit, self.patience, self.tell = time_limit, patience, tell
        self.schedule = Schedule([])
        self.flights: dict[Future[Result], _Flight] = {}
        self.names: set[str] = set()
        self.deaths: dict[str, int] = {}
        self.gone_since: dict[str, float] = {}  # by slot: when it first missed the store
        self.endings: dict[str, str] = {}  # how each job ended; one that is made again counts once, as it ended last
        self.pause = self.next_look = 0.0
        self.lonely_since = time.monotonic()

    def go(self) -> Summary:
        started = time.monotonic()
        try:
            self._survey()
            if len(self.schedule):
                self.pool = self.open_pool()
            while len(self.schedule):
                self._fill()
                self._take()
                self._look_again()
        finally:
            self._end()
        counts = Counter(self.endings.values())
        seconds = time.monotonic() - started
        return Summary(counts["done"], counts["failed"], counts["skipped"], counts["n/a"], seconds)

    def _survey(self) -> None:
        """Plan what the store lacks and did not see fail."""
        found = self._ask(partial(survey, self.all, self.store))
        estimate = self._ask(partial(Estimate.of_store, self.all, self.store, found.there))
        costs = {job.key: estimate.seconds(job.kind, job.cost) for job in found.open}
        self.schedule = Schedule(found.open, costs)
        for job in self.all:
            if job.key not in costs and job.key not in found.failed:
                self.endings[job.key] = "skipped"
                self.tell(Event("found", job))
        for key, error in found.failed.items():
            self._failed(self.jobs[key], error)

    def _fill(self) -> None:
        """Give every free slot a job."""
        slots = self.pool.slots()
        names = {slot.name for slot in slots}
        for name in self.names - names:
            self.schedule.left(name)
        self.names = names
        busy = {flight.slot.name for flight in self.flights.values()}
        for slot in slots:
            job = None if slot.name in busy else self._next(slot.name)
            if job is not None:
                self.tell(Event("start", job, slot.name))
                flight = _Flight(job, slot)
                self.flights[slot.submit(job, self.store, self.execute)] = flight

    def _next(self, name: str) -> Job | None:
        """Return the next job for a slot. One that another runner has done or is at work on is not sent to a worker."""
        while (job := self.schedule.next(name)) is not None:
            if self._is_there(job):
                self._there(job)
            elif self._ask(partial(self.store.is_locked, job.key)):
                self.schedule.postponed(job.key)
                self._look_soon()
                self.tell(Event("held", job, name))
            else:
                break
        return job

    def _is_there(self, job: Job) -> bool:
        """Whether a result is in the store. Victims are found by name only; the worker that loads one checks it."""
        if job.kind == "victim":
            return os.path.lexists(self.store.place("artifacts", job.key))
        there = os.path.lexists(self.store.place("records", job.key, ".json"))
        return there and self._ask(partial(present, job, self.store))

    def _take(self) -> None:
        """Wait for results and act on them."""
        if not self.flights:
            if len(self.schedule) and self.names and not self.schedule.postponed_jobs:
                raise RuntimeError(f"{len(self.schedule)} jobs wait for something that nobody makes")
            self._tell_loneliness()
            time.sleep(min(0.2, self.pause or 0.2))
            return
        finished, _ = wait(self.flights, timeout=self._patience_for_results(), return_when=FIRST_COMPLETED)
        for future in finished:
            self._landed(self.flights.pop(future), future)
        for future, flight in list(self.flights.items()):
            if self.time_limit is not None and time.monotonic() - flight.started > self.time_limit:
                del self.flights[future]
                self._died(flight, f"time limit of {self.time_limit:g} seconds", again=False)

    def _tell_loneliness(self) -> None:
        """Say it when a cluster has had no worker for long."""
        now = time.monotonic()
        if self.names:
            self.lonely_since = now
        elif now - self.lonely_since > LONELY:
            self.lonely_since = now
            self.tell(Event("note", text=f"the cluster has had no worker for {LONELY:g} seconds; still waiting"))

    def _patience_for_results(self) -> float:
        now, moments = time.monotonic(), [0.5]
        if self.time_limit is not None:
            moments += [flight.started + self.time_limit - now for flight in self.flights.values()]
        if self.schedule.postponed_jobs:
            moments.append(self.next_look - now)
        return max(0.01, min(moments))

    def _landed(self, flight: _Flight, future: Future[Result]) -> None:
        job, slot, error = flight.job, flight.slot.name, future.exception()
        if error is not None:
            how = death(error)
            self._died(flight, how or f"the job could not be sent: {one_line(error)}", again=how is not None)
            return
        result = future.result()
        if result.ending != "gone":
            self.gone_since.pop(slot, None)
        match result.ending:
            case "held":
                self.schedule.postponed(job.key)
                self._look_soon()
                self.tell(Event("held", job, slot))
            case "missing":
                self._missing(job, result.needs)
            case "failed":
                self._failed(job, result.error, result.seconds)
            case "lost":
                self._died(flight, result.error)
            case "gone":
                self.schedule.resume(job.key)
                self._await_store(StoreGone(result.error), slot)
            case "stop":
                raise RequestError(result.error)
            case "found" | "done" | "n/a" as ending:
                self.endings[job.key] = "n/a" if ending == "n/a" else "done"
                self.schedule.finished(job.key)
                self.tell(Event(ending, job, slot, result.seconds))

    def _died(self, flight: _Flight, how: str, *, again: bool = True) -> None:
        """The worker is gone; its job is tried once more or has failed, unless it had just ended."""
        job = flight.job
        flight.slot.kill()
        self.schedule.left(flight.slot.name)
        if self._is_there(job):
            self._there(job)
            return
        self.deaths[job.key] = self.deaths.get(job.key, 0) + 1
        if again and self.deaths[job.key] < TRIES:
            self.schedule.resume(job.key)
            self.tell(Event("lost", job, flight.slot.name, text=how))
            return
        seconds = time.monotonic() - flight.started
        where = {"slot": flight.slot.name}
        self._ask(partial(self.store.put_failure, job.key, failure(job, how, seconds=seconds, where=where)))
        self._give_back(job)
        self._failed(job, how, seconds)

    def _missing(self, job: Job, needs: tuple[str, ...]) -> None:
        """A victim that seemed to be there is not, or is damaged; it is made again before its cells."""
        for need in needs:
            if need not in self.jobs:
                raise RequestError(f"{job.label} needs {need}, which is neither in the store nor among the jobs.")
            self.schedule.missing(job.key, self.jobs[need])
            self.tell(Event("note", text=f"{self.jobs[need].label} is missing from the store and is made again"))

    def _failed(self, job: Job, error: str, seconds: float | None = None) -> None:
        """Count a failure and those that depended on it; each gets a row that names the cause."""
        self.endings[job.key] = "failed"
        self.tell(Event("failed", job, seconds=seconds, text=error))
        cause = error if error.startswith(CAUSE) else f"{CAUSE}: {job.label}: {error}"
        for dropped in self.schedule.failed(job.key) if self.schedule.knows(job.key) else ():
            self._ask(partial(self.store.put_failure, dropped.key, failure(dropped, cause)))
            self.endings[dropped.key] = "failed"
            self.tell(Event("failed", dropped, text=cause))

    def _there(self, job: Job) -> None:
        self.endings[job.key] = "done"
        self.schedule.finished(job.key)
        self.tell(Event("found", job))

    def _look_soon(self) -> None:
        self.pause = 0.1
        self.next_look = min(self.next_look, time.monotonic() + self.pause)

    def _look_again(self) -> None:
        """See what became of the jobs that others are at work on; a dead owner's lock is ended here."""
        if not self.schedule.postponed_jobs or time.monotonic() < self.next_look:
            return
        alive = {lock.key for lock in self._ask(self.store.locks) if lock.alive}
        moved = False
        for job in self.schedule.postponed_jobs:
            if job.key in alive:
                continue
            moved = True
            if self._is_there(job):
                self._there(job)
            elif known := self._ask(partial(self.store.failure, job.key)):
                self._failed(job, str(known.get("error")))
            else:
                self._give_back(job)
                self.schedule.resume(job.key)
        self.pause = 0.1 if moved else min(2 * self.pause, 2.0, heartbeat() / 4)
        self.next_look = time.monotonic() + self.pause

    def _give_back(self, job: Job) -> None:
        """End the lock that a dead worker left, if nobody has done so."""
        with contextlib.suppress(RequestError, OSError):
            lock = self.store.lock(job.key)
            if lock is not None:
                lock.release()

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask the store, and wait where it has vanished."""
        while True:
            try:
                answer = question()
            except StoreGone as error:
                self._await_store(error, "")
            else:
                self.gone_since.pop("", None)
                return answer

    def _await_store(self, error: StoreGone, who: str) -> None:
        """Return when the store is there; give up when ``who`` has missed it for too long."""
        now = time.monotonic()
        if who not in self.gone_since:
            self.gone_since[who] = now
            self.tell(Event("note", text=f"{error} Waiting up to {self.patience:g} seconds for it."))
        while True:
            if time.monotonic() - self.gone_since[who] > self.patience:
                where = f" for {who}" if who and self._store_is_there() else ""
                raise RequestError(f"{error}{where} What was finished is kept; run the same again when it is back.")
            time.sleep(0.2)
            if self._store_is_there():
                return

    def _store_is_there(self) -> bool:
        with contextlib.suppress(StoreGone):
            self.store.check_there()
            return True
        return False

    def _end(self) -> None:
        """End all workers; those in the middle of a job get a moment to give their locks back."""
        try:
            for flight in self.flights.values():
                flight.slot.stop()
            if self.flights:
                wait(self.flights, timeout=GRACE)
        finally:
            for flight in self.flights.values():
                flight.slot.kill()
            self.pool.close()
        for flight in self.flights.values():
            self._give_back(flight.job)
