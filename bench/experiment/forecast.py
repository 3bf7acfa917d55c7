"""How long what is left of a suite takes on this machine, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.experiment import costs, recipes
from bench.experiment.plan import EXAMPLES_PER_SECOND, Plan
from bench.store import Store
from bench.store.words import counted

if TYPE_CHECKING:
    from bench.runner.status import Status


def duration(plan: Plan, store: Store, status: Status, *, workers: int, device: str) -> str:
    """Return it.

    A job costs what :mod:`bench.experiment.costs` says, and a trained example what the finished cells of the suite took
    or, where there is none, what some seconds of training take now.
    """
    from bench.runner.devices import threads_of
    from bench.runner.estimates import Estimate
    from bench.runner.progress import duration as in_words

    open_jobs = {job.key for job in status.unfinished} | {job.key for job, _ in status.failed}
    known = Estimate.of_store(plan.jobs, store, plan.cells.keys() - open_jobs)
    if known.knows_something:
        seconds = sum(known.seconds(job.kind, job.cost) for job in status.unfinished)
        source = "by what its finished cells took"
    else:
        from bench.experiment import probe

        one = probe.seconds_per_example(plan.victims.values(), device=device, threads=threads_of(workers))
        seconds = sum(job.cost for job in status.unfinished) * EXAMPLES_PER_SECOND * one
        source = f"as {1 / one:,.{0 if one < 0.1 else 1}f} examples a second were trained just now"
    text = f"about {in_words(seconds / workers)} with {counted(workers, 'worker')}, {source}"
    unknown = _never_measured(plan)
    return f"{text}; never measured: {', '.join(unknown)}" if unknown else text


def _never_measured(plan: Plan) -> list[str]:
    """Return the parts of defenses whose cost is not known."""
    by_identity = {(id(cell.defense), id(cell.victim.task)): cell for cell in plan.cells.values()}
    pairs = ((cell.defense, recipes.task_of(cell.victim.task).facts.kind) for cell in by_identity.values())
    return sorted({name for defense, kind in pairs if defense is not None for name in costs.unknown(defense, kind)})
