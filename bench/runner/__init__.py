"""Jobs to workers: the order, the processes, progress and status. It knows nothing of attacks and defenses."""

from bench.runner.engine import run
from bench.runner.jobs import Event, Job, Outcome, Refused, Summary, Worker
from bench.runner.progress import progress
from bench.runner.status import Status, render_status, status

__all__ = [
    "Event",
    "Job",
    "Outcome",
    "Refused",
    "Status",
    "Summary",
    "Worker",
    "progress",
    "render_status",
    "run",
    "status",
]
