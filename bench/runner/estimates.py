"""How long jobs take: their own estimates, scaled by what was measured for jobs of their kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Self

from bench.runner.jobs import Job
from bench.store import Store

SAMPLE = 200  # records that are read for a first guess


class Estimate:
    """Learns from measured jobs; victims and cells are scaled separately."""

    def __init__(self) -> None:
        self._seconds = {"victim": 0.0, "cell": 0.0}
        self._costs = {"victim": 0.0, "cell": 0.0}

    @classmethod
    def of_store(cls, jobs: Sequence[Job], store: Store, finished: Collection[str]) -> Self:
        """Read durations from an even sample of the finished jobs.

        ``seconds`` of a record is a mapping: its entry ``victim`` was spent on the victim, the others on the cell.
        """
        estimate, by_key = cls(), {job.key: job for job in jobs if job.kind == "victim"}
        cells = [job for job in jobs if job.kind == "cell" and job.key in finished]
        sample = {job.key: job for job in cells[:: len(cells) // SAMPLE + 1]}
        for record in store.records(sample):
            job, seconds = sample[record["key"]], record.get("seconds")
            if not isinstance(seconds, Mapping) or not seconds:
                continue
            estimate.observe(job, sum(float(value) for name, value in seconds.items() if name != "victim"))
            if "victim" in seconds and job.needs and job.needs[0] in by_key:
                estimate.observe(by_key[job.needs[0]], float(seconds["victim"]))
        return estimate

    def observe(self, job: Job, seconds: float) -> None:
        """Take note of how long a job took."""
        self._seconds[job.kind] += seconds
        self._costs[job.kind] += job.cost

    @property
    def knows_something(self) -> bool:
        """Whether any job has been measured."""
        return any(self._seconds.values())

    def seconds(self, kind: str, cost: float) -> float:
        """Return the seconds that jobs of a kind take, given the sum of their costs."""
        known = self._costs[kind] > 0 and self._seconds[kind] > 0
        return cost * self._seconds[kind] / self._costs[kind] if known else cost
