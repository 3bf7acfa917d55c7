"""What a worker does with a job: train a victim, or defend and judge one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.experiment import recipes
from bench.experiment.grid import VictimSpec
from bench.experiment.judging import Outcome, judge
from bench.experiment.victims import build_victim

if TYPE_CHECKING:
    from bench.runner import Job, Worker
    from bench.store import Store


def execute(job: Job, store: Store, worker: Worker) -> Outcome:
    """Perform one job of a plan; its result goes into the store.

    Raises:
        Refused: this worker would make something else than the plan means.
    """
    check_key(job)
    if isinstance(job.payload, VictimSpec):
        build_victim(job.payload, store, worker)
        return "done"
    return judge(job.payload, store, worker)


def check_key(job: Job) -> None:
    """Compare the key that this process gives to a job with the job's own.

    With other libraries, code or data its result would get another key, for which nobody asks.

    Raises:
        Refused: the keys differ, or this process lacks what the key is made of; says in what.
    """
    from bench.runner import Refused

    victim = job.payload if isinstance(job.payload, VictimSpec) else job.payload.victim
    try:
        key = recipes.victim_key(victim) if victim is job.payload else recipes.cell_key(job.payload)
        here = recipes.made_with(victim)
    except Exception as error:  # a task, a model or a plugin that is not here may fail in any way
        raise Refused(f"it cannot find out what {job.label} is: {' '.join(str(error).split())}") from error
    if key == job.key:
        return
    names = sorted(here.keys() | job.made_with.keys())
    values = ((name, here.get(name, "missing"), job.made_with.get(name, "missing")) for name in names)
    differ = [f"{name} is {own} there and {meant} here" for name, own, meant in values if own != meant]
    why = "; ".join(differ) or "a plugin is another one there"
    raise Refused(f"its key of {job.label} is another one: {why}. Workers need the same versions, data and models.")
