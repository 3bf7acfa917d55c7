"""Which job next: victims first, longest first, and cells where their victim is in memory already."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from bench.runner.jobs import Job

State = Literal["blocked", "ready", "running", "postponed"]
_Entry = tuple[float, int, str]  # minus the priority, a number that breaks ties, and the key
LEAST = 1e-6  # seconds, so that a job that costs nothing still counts as work


@dataclass(slots=True)
class _Group:
    """The ready cells of one victim.

    Attributes:
        cells: a heap, the longest first; it may still hold cells that are no longer ready.
        ready: how many are.
        work: seconds of all that are.
        owners: how many workers have the victim in memory.
        stamp: number of its latest entry among the groups; older entries do not count.
    """

    cells: list[_Entry] = field(default_factory=list)
    ready: int = 0
    work: float = 0.0
    owners: int = 0
    stamp: int = 0


class Schedule:
    """Decides which worker does which job. It knows no processes, no store and no clock; each step costs O(log n).

    The priority of a victim is the length of the longest chain of jobs that begins with it, in seconds. A cell goes to
    the worker that has its victim in memory. A worker without such cells takes those of the victim with most work left
    per worker. Near the end, when the longest cell left would outlast all others, that cell goes to whichever worker
    asks next.

    Args:
        jobs: what to do. Needs that are not among them count as fulfilled.
        costs: seconds by key, instead of the jobs' own estimates.

    Raises:
        ValueError: two jobs with one key, or jobs that need each other in a circle.
    """

    def __init__(self, jobs: Iterable[Job], costs: Mapping[str, float] | None = None) -> None:
        self._jobs: dict[str, Job] = {}
        for job in jobs:
            if self._jobs.setdefault(job.key, job) is not job:
                raise ValueError(f"two jobs have the key {job.key}")
        costs = costs or {}
        self._cost = {key: max(LEAST, costs.get(key, job.cost)) for key, job in self._jobs.items()}
        self._unmet = {k: sum(n in self._jobs for n in set(job.needs)) for k, job in self._jobs.items()}
        self._waiting: dict[str, list[str]] = defaultdict(list)
        for key, job in self._jobs.items():
            for need in set(job.needs):
                if need in self._jobs:
                    self._waiting[need].append(key)
        self._rank = self._ranks()
        self._state: dict[str, State] = dict.fromkeys(self._jobs, "blocked")
        self._numbers = count()
        self._victims: list[_Entry] = []
        self._longest: list[_Entry] = []  # all ready cells
        self._groups: dict[str, _Group] = defaultdict(_Group)
        self._busiest: list[_Entry] = []  # groups by the work left per worker, if one more worker joined
        self._work = 0.0
        self._memory: dict[Hashable, str | None] = {}
        self._postponed: dict[str, None] = {}
        for key in self._jobs:
            if not self._unmet[key]:
                self._make_ready(key)

    def __len__(self) -> int:
        """How many jobs are neither finished nor failed."""
        return len(self._state)

    def knows(self, key: str) -> bool:
        """Whether a job is neither finished nor failed."""
        return key in self._state

    @property
    def postponed_jobs(self) -> list[Job]:
        """The jobs that another runner is working on, in the order in which they were postponed."""
        return [self._jobs[key] for key in self._postponed]

    def next(self, worker: Hashable) -> Job | None:
        """Return the job that a worker should do now, or None if no job is ready."""
        self._memory.setdefault(worker, None)
        key = self._first(self._victims)
        if key is not None:
            self._move(worker, key)
        else:
            key = self._next_cell(worker)
            if key is None:
                return None
            self._move(worker, _home(self._jobs[key]))
            self._leave_group(key)
        self._state[key] = "running"
        return self._jobs[key]

    def finished(self, key: str) -> None:
        """Note that a job has a result; the jobs that waited for nothing else become ready."""
        self._remove(key)
        for waiter in self._waiting.pop(key, ()):
            if waiter in self._state:
                self._unmet[waiter] -= 1
                if not self._unmet[waiter]:
                    self._make_ready(waiter)

    def failed(self, key: str) -> list[Job]:
        """Note that a job failed; drop and return the jobs that can no longer be done."""
        self._remove(key)
        dropped = []
        for waiter in self._waiting.pop(key, ()):
            if waiter in self._state:
                dropped += [self._jobs[waiter], *self.failed(waiter)]
        return dropped

    def postponed(self, key: str) -> None:
        """Put a running job aside, because another runner is working on it."""
        self._state[key] = "postponed"
        self._postponed[key] = None

    def resume(self, key: str) -> None:
        """Make a running or postponed job ready again."""
        self._postponed.pop(key, None)
        self._make_ready(key)

    def missing(self, key: str, victim: Job) -> None:
        """Let a running job wait for a victim that turned out to be missing."""
        self._state[key] = "blocked"
        self._unmet[key] += 1
        self._waiting[victim.key].append(key)
        if victim.key not in self._state:
            self._jobs[victim.key] = victim
            self._cost.setdefault(victim.key, max(LEAST, victim.cost))
            self._rank[victim.key] = self._cost[victim.key] + self._rank[key]
            self._unmet[victim.key] = 0
            self._make_ready(victim.key)

    def left(self, worker: Hashable) -> None:
        """Forget a worker and what it had in memory."""
        self._move(worker, None)
        self._memory.pop(worker, None)

    def _ranks(self) -> dict[str, float]:
        """Return for each job the length of the longest chain that begins with it, in seconds."""
        order = [key for key, unmet in self._unmet.items() if not unmet]
        unmet = dict(self._unmet)
        for key in order:  # grows on the way
            for waiter in self._waiting.get(key, ()):
                unmet[waiter] -= 1
                if not unmet[waiter]:
                    order.append(waiter)
        if len(order) < len(self._jobs):
            raise ValueError(f"{len(self._jobs) - len(order)} jobs need each other in a circle")
        ranks: dict[str, float] = {}
        for key in reversed(order):
            ranks[key] = self._cost[key] + max((ranks[w] for w in self._waiting.get(key, ())), default=0.0)
        return ranks

    def _make_ready(self, key: str) -> None:
        self._state[key] = "ready"
        job = self._jobs[key]
        if job.kind == "victim":
            heapq.heappush(self._victims, (-self._rank[key], next(self._numbers), key))
            return
        entry = (-self._cost[key], next(self._numbers), key)
        heapq.heappush(self._longest, entry)
        group = self._groups[_home(job)]
        heapq.heappush(group.cells, entry)
        self._weigh(_home(job), 1, self._cost[key])

    def _remove(self, key: str) -> None:
        state = self._state.pop(key)
        self._postponed.pop(key, None)
        if state == "ready" and self._jobs[key].kind == "cell":
            self._leave_group(key)

    def _leave_group(self, key: str) -> None:
        self._weigh(_home(self._jobs[key]), -1, -self._cost[key])

    def _next_cell(self, worker: Hashable) -> str | None:
        longest = self._first(self._longest, take=False)
        if longest is None:
            return None
        if 2 * self._cost[longest] * len(self._memory) > self._work:
            return longest
        home = self._memory[worker]
        if home is not None and home in self._groups and self._groups[home].ready:
            return self._first(self._groups[home].cells)
        while True:
            _, stamp, name = self._busiest[0]
            group = self._groups[name]
            if group.stamp == stamp and group.ready:
                return self._first(group.cells)
            heapq.heappop(self._busiest)

    def _first(self, heap: list[_Entry], *, take: bool = True) -> str | None:
        """Return the first entry that is still ready; drop the entries before it."""
        while heap:
            key = heap[0][2]
            ready = self._state.get(key) == "ready"
            if take or not ready:
                heapq.heappop(heap)
            if ready:
                return key
        return None

    def _weigh(self, name: str, cells: int, work: float, owners: int = 0) -> None:
        """Change a group and give it its new place among the groups."""
        group = self._groups[name]
        group.ready += cells
        group.work = group.work + work if group.ready else 0.0
        group.owners += owners
        self._work = max(0.0, self._work + work)
        group.stamp = next(self._numbers)
        if group.ready:
            heapq.heappush(self._busiest, (-group.work / (group.owners + 1), group.stamp, name))

    def _move(self, worker: Hashable, home: str | None) -> None:
        """Note which victim a worker has in memory now."""
        before = self._memory.get(worker)
        if before == home:
            return
        if before is not None:
            self._weigh(before, 0, 0.0, -1)
        if home is not None:
            self._weigh(home, 0, 0.0, 1)
        self._memory[worker] = home


def _home(job: Job) -> str:
    """Return the victim that a cell prefers to have in memory; cells without needs share one group."""
    return job.needs[0] if job.needs else ""
