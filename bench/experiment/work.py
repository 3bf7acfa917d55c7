"""What a worker does with a job: train a victim, or defend and judge one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.experiment.grid import VictimSpec
from bench.experiment.judging import Outcome, judge
from bench.experiment.victims import build_victim

if TYPE_CHECKING:
    from bench.runner import Job, Worker
    from bench.store import Store


def execute(job: Job, store: Store, worker: Worker) -> Outcome:
    """Perform one job of a plan; its result goes into the store."""
    if isinstance(job.payload, VictimSpec):
        build_victim(job.payload, store, worker)
        return "done"
    return judge(job.payload, store, worker)
