"""The run loop: give jobs to slots, take results, survive dying workers, other runners, a lost store and Ctrl-C."""

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

from bench.errors import RequestError, unknown
from bench.runner.devices import check_device
from bench.runner.estimates import Estimate
from bench.runner.jobs import CAUSE, Event, Execute, Job, Summary
from bench.runner.patience import Patience
from bench.runner.schedule import Schedule
from bench.runner.slots import Local, Pool, Slot, death, local
from bench.runner.survey import survey
from bench.runner.worker import Result, failure, one_line, present
from bench.store import Store, StoreGone, heartbeat

ENGINES = ("serial", "loky", "dask")
TRIES = 2  # a job whose worker died is tried once more, in another process
NO_WORKER_SECONDS = 60.0  # without any worker, after which a note says so
GRACE = 2.0  # seconds that jobs get to release their locks before they are killed


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
    """Do every job whose result is not in the store yet; victims only where a cell still needs them.

    A job that failed before counts as failed and is not tried again: drop its failure first. Ctrl-C ends the workers
    and raises ``KeyboardInterrupt``; what was finished is in the store. SIGTERM does the same.

    Args:
        jobs: what to do; the store finds results by their keys.
        store: possibly shared with other runners.
        execute: does one job and writes its result; a function of a module, so that it can be sent to a process.
        engine: ``serial`` (this process), ``loky`` (processes on this machine) or ``dask`` (processes anywhere).
        workers: processes; by default one per GPU slot, or one. A Dask scheduler has its own.
        slots_per_gpu: processes that share a GPU.
        device: ``auto``, ``cpu`` or ``cuda``.
        time_limit: seconds that a job may take before its process is killed. With ``serial`` the job is interrupted,
            which works only where its code returns to Python now and then.
        scheduler: for ``dask``: an address such as ``tcp://host:8786``, or a cluster file; see docs/cluster.md.
        patience: seconds to wait for a store that has vanished.
        on_event: called with each event.

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
    loop = _RunLoop(jobs, store, execute, open_pool, time_limit, patience, on_event or (lambda event: None))
    with _sigterm_as_ctrl_c():
        return loop.run()


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, because batch systems announce the end with it; a second one changes nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # the second made a wait lose its lock
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class _Assignment:
    """A job that a slot is working on."""

    job: Job
    slot: Slot
    started: float = field(default_factory=time.monotonic)


class _RunLoop:
    """One run: keeps every slot busy with the next job until none is left."""

    def __init__(
        self,
        jobs: Sequence[Job],
        store: Store,
        execute: Execute,
        open_pool: Callable[[], Pool],
        time_limit: float | None,
        patience: float,
        notify: Callable[[Event], None],
    ) -> None:
        self.all = jobs
        self.jobs = {job.key: job for job in jobs}
        self.store, self.execute, self.open_pool = store, execute, open_pool
        self.pool: Pool = Local([])
        self.time_limit, self.notify = time_limit, notify
        self.patience = Patience(store, patience, notify)
        self.schedule = Schedule([])
        self.assignments: dict[Future[Result], _Assignment] = {}
        self.slot_names: set[str] = set()
        self.tries: Counter[str] = Counter()  # by job: how often its worker died or its store was in trouble
        self.endings: dict[str, str] = {}  # how each job ended; one that ran twice counts once, by its last end
        self.pause = self.next_check = 0.0  # between checks of postponed jobs
        self.no_worker_since = time.monotonic()

    def run(self) -> Summary:
        """Do the jobs and count how they ended."""
        started = time.monotonic()
        try:
            self._survey()
            if len(self.schedule):
                self.pool = self.open_pool()
            while len(self.schedule):
                self._assign()
                self._collect()
                self._check_postponed()
        finally:
            self._stop_workers()
        counts = Counter(self.endings.values())
        seconds = time.monotonic() - started
        return Summary(counts["done"], counts["failed"], counts["skipped"], counts["n/a"], seconds)

    def _survey(self) -> None:
        """Schedule the jobs that have neither a result nor a failure in the store."""
        before = self.patience.ask(partial(survey, self.all, self.store))
        estimate = self.patience.ask(partial(Estimate.of_store, self.all, self.store, before.finished))
        costs = {job.key: estimate.seconds(job.kind, job.cost) for job in before.to_do}
        self.schedule = Schedule(before.to_do, costs)
        for job in self.all:
            if job.key not in costs and job.key not in before.failed:
                self.endings[job.key] = "skipped"
                self.notify(Event("found", job))
        for key, error in before.failed.items():
            self._failed(self.jobs[key], error)

    def _assign(self) -> None:
        """Give every free slot a job."""
        slots = self.pool.slots()
        names = {slot.name for slot in slots}
        for departed in self.slot_names - names:
            self.schedule.left(departed)
        self.slot_names = names
        busy = {assignment.slot.name for assignment in self.assignments.values()}
        for slot in slots:
            job = None if slot.name in busy else self._next(slot.name)
            if job is not None:
                self.notify(Event("start", job, slot.name))
                assignment = _Assignment(job, slot)
                self.assignments[slot.submit(job, self.store, self.execute)] = assignment

    def _next(self, name: str) -> Job | None:
        """Return the next job for a slot, leaving out what another runner has done or is working on."""
        while (job := self.schedule.next(name)) is not None:
            if self._has_result(job):
                self._result_found(job)
            elif self.patience.ask(partial(self.store.is_locked, job.key)):
                self.schedule.postponed(job.key)
                self._check_soon()
                self.notify(Event("held", job, name))
            else:
                break
        return job

    def _has_result(self, job: Job) -> bool:
        """Whether the store has the result of a job. A victim is only looked up by name; its loader checks it."""
        if job.kind == "victim":
            return os.path.lexists(self.store.place("artifacts", job.key))
        exists = os.path.lexists(self.store.place("records", job.key, ".json"))
        return exists and self.patience.ask(partial(present, job, self.store))

    def _collect(self) -> None:
        """Wait for results and act on them."""
        if not self.assignments:
            if len(self.schedule) and self.slot_names and not self.schedule.postponed_jobs:
                raise RuntimeError(f"{len(self.schedule)} jobs wait for something that no job makes")
            self._note_missing_workers()
            time.sleep(min(0.2, self.pause or 0.2))
            return
        finished, _ = wait(self.assignments, timeout=self._longest_wait(), return_when=FIRST_COMPLETED)
        for future in finished:
            self._ended(self.assignments.pop(future), future)
        for future, assignment in list(self.assignments.items()):
            if self.time_limit is not None and time.monotonic() - assignment.started > self.time_limit:
                del self.assignments[future]
                self._worker_died(assignment, f"time limit of {self.time_limit:g} seconds", again=False)

    def _note_missing_workers(self) -> None:
        """Emit a note when a cluster has had no worker for long."""
        now = time.monotonic()
        if self.slot_names:
            self.no_worker_since = now
        elif now - self.no_worker_since > NO_WORKER_SECONDS:
            self.no_worker_since = now
            text = f"the cluster has had no worker for {NO_WORKER_SECONDS:g} seconds; still waiting"
            self.notify(Event("note", text=text))

    def _longest_wait(self) -> float:
        """Return the seconds until something other than a result needs attention."""
        now, moments = time.monotonic(), [0.5]
        if self.time_limit is not None:
            moments += [assignment.started + self.time_limit - now for assignment in self.assignments.values()]
        if self.schedule.postponed_jobs:
            moments.append(self.next_check - now)
        return max(0.01, min(moments))

    def _ended(self, assignment: _Assignment, future: Future[Result]) -> None:
        """Act on the result of an attempt, or on the death of its worker."""
        job, slot, error = assignment.job, assignment.slot.name, future.exception()
        if error is not None:
            how = death(error)
            self._worker_died(assignment, how or f"the job could not be sent: {one_line(error)}", again=how is not None)
            return
        result = future.result()
        if result.ending != "gone":
            self.patience.reached(slot)
        match result.ending:
            case "held":
                self.schedule.postponed(job.key)
                self._check_soon()
                self.notify(Event("held", job, slot))
            case "missing":
                self._missing(job, result.needs)
            case "failed":
                self._failed(job, result.error, result.seconds)
            case "lost":
                self._worker_died(assignment, result.error)
            case "trouble":
                self._again_or_failed(assignment, result.error)
            case "refused":
                self._refused(assignment, result.error)
            case "gone":
                self.schedule.resume(job.key)
                self.patience.wait(StoreGone(result.error), slot)
            case "stop":
                raise RequestError(result.error)
            case "found" | "done" | "n/a" as ending:
                self.endings[job.key] = "n/a" if ending == "n/a" else "done"
                self.schedule.finished(job.key)
                self.notify(Event(ending, job, slot, result.seconds))

    def _worker_died(self, assignment: _Assignment, how: str, *, again: bool = True) -> None:
        """Act on the death of a worker: its job is tried once more or has failed, unless it had just been finished."""
        job = assignment.job
        assignment.slot.kill()
        self.schedule.left(assignment.slot.name)
        if self._has_result(job):
            self._result_found(job)
            return
        self._again_or_failed(assignment, how, again=again)

    def _again_or_failed(self, assignment: _Assignment, how: str, *, again: bool = True) -> None:
        """Try a job once more, or count it as failed, whatever it was that it could not help."""
        job = assignment.job
        self.tries[job.key] += 1
        if again and self.tries[job.key] < TRIES:
            self.schedule.resume(job.key)
            self.notify(Event("lost", job, assignment.slot.name, text=how))
            return
        seconds = time.monotonic() - assignment.started
        where = {"slot": assignment.slot.name}
        self.patience.ask(partial(self.store.put_failure, job.key, failure(job, how, seconds=seconds, where=where)))
        self._release_lock(job)
        self._failed(job, how, seconds)

    def _refused(self, assignment: _Assignment, why: str) -> None:
        """Give a job back, and its worker nothing any more: it would make something else of every job."""
        self.schedule.resume(assignment.job.key)
        self.schedule.left(assignment.slot.name)
        self.pool.refuse(assignment.slot)
        text = f"{assignment.slot.name} is refused: {why}"
        if not self.pool.slots():
            raise RequestError(text)
        self.notify(Event("note", text=text))

    def _missing(self, job: Job, needs: tuple[str, ...]) -> None:
        """Make a victim again, before its cells, because it is damaged or has gone since it was looked up."""
        for need in needs:
            if need not in self.jobs:
                raise RequestError(f"{job.label} needs {need}, which is neither in the store nor among the jobs.")
            self.schedule.missing(job.key, self.jobs[need])
            self.notify(Event("note", text=f"{self.jobs[need].label} is missing from the store and is made again"))

    def _failed(self, job: Job, error: str, seconds: float | None = None) -> None:
        """Count a failure, and those of the jobs that need it; each is stored with the cause."""
        self.endings[job.key] = "failed"
        self.notify(Event("failed", job, seconds=seconds, text=error))
        cause = error if error.startswith(CAUSE) else f"{CAUSE}: {job.label}: {error}"
        for dropped in self.schedule.failed(job.key) if self.schedule.knows(job.key) else ():
            self.patience.ask(partial(self.store.put_failure, dropped.key, failure(dropped, cause)))
            self.endings[dropped.key] = "failed"
            self.notify(Event("failed", dropped, text=cause))

    def _result_found(self, job: Job) -> None:
        """Count a job that another runner has finished."""
        self.endings[job.key] = "done"
        self.schedule.finished(job.key)
        self.notify(Event("found", job))

    def _check_soon(self) -> None:
        self.pause = 0.1
        self.next_check = min(self.next_check, time.monotonic() + self.pause)

    def _check_postponed(self) -> None:
        """See what became of the jobs that other runners are working on, and release the locks of those that died."""
        if not self.schedule.postponed_jobs or time.monotonic() < self.next_check:
            return
        alive = {lock.key for lock in self.patience.ask(self.store.locks) if lock.alive}
        moved = False
        for job in self.schedule.postponed_jobs:
            if job.key in alive:
                continue
            moved = True
            if self._has_result(job):
                self._result_found(job)
            elif known := self.patience.ask(partial(self.store.failure, job.key)):
                self._failed(job, str(known.get("error")))
            else:
                self._release_lock(job)
                self.schedule.resume(job.key)
        self.pause = 0.1 if moved else min(2 * self.pause, 2.0, heartbeat() / 4)
        self.next_check = time.monotonic() + self.pause

    def _release_lock(self, job: Job) -> None:
        """Release the lock that a dead worker left, unless another process has done so."""
        with contextlib.suppress(RequestError, OSError):
            lock = self.store.lock(job.key)
            if lock is not None:
                lock.release()

    def _stop_workers(self) -> None:
        """End all workers; those in the middle of a job get a moment to release their locks."""
        try:
            for assignment in self.assignments.values():
                assignment.slot.stop()
            if self.assignments:
                wait(self.assignments, timeout=GRACE)
        finally:
            for assignment in self.assignments.values():
                assignment.slot.kill()
            self.pool.close()
        for assignment in self.assignments.values():
            self._release_lock(assignment.job)
