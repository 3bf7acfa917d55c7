"""The schedule in numbers: how busy it keeps 64 workers, and what planning 100,000 cells costs.

A discrete-event simulation asks the real :class:`Schedule`; only the passing of time is simulated. Run it as a program
for the figures of many cases: ``python -m tests.performance.test_schedule``.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bench.experiment.plan import Plan
from bench.experiment.recipes import cell_recipe
from bench.runner.jobs import Job
from bench.runner.schedule import Schedule
from bench.suites import suite

LOAD = 0.05  # of a mean cell: what it costs to load a victim that is not in memory


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def grid(cells: int, victims: int, *, references: int = 20, seed: int = 0) -> tuple[list[Job], dict[str, float]]:
    """Return jobs and their true seconds: lognormal, victims seven times a cell in the mean, as real ones.

    Every ``victims / references`` victims share a clean reference; a third of them start from it, and one cell of
    each needs it besides its own victim.
    """
    rng = np.random.default_rng(seed)
    jobs: list[Job] = []
    seconds: dict[str, float] = {}

    def add(name: str, kind: str, needs: tuple[str, ...], mean: float, spread: float) -> str:
        job = Job(key(name), "victim" if kind == "victim" else "cell", needs, mean, name)
        seconds[job.key] = mean * float(rng.lognormal(-(spread**2) / 2, spread))
        jobs.append(job)
        return job.key

    clean = [add(f"clean {i}", "victim", (), 7.0, 0.4) for i in range(references)]
    trained = []
    for i in range(victims - references):
        reference = clean[i % references]
        needs = (reference,) if i % 3 == 0 else ()
        trained.append((add(f"victim {i}", "victim", needs, 7.0, 0.4), reference))
    for i in range(cells):
        victim, reference = trained[i % len(trained)]
        first = i < len(trained)
        add(f"cell {i}", "cell", (victim, reference) if first else (victim,), 1.0, 0.8)
    return jobs, seconds


@dataclass(frozen=True)
class Outcome:
    """What a simulated run came to.

    Attributes:
        utilisation: time spent on jobs / (workers x makespan), percent; loading a victim does not count as work.
        warm: cells that found their victim in memory, percent.
        asking: real seconds that the schedule took in all.
    """

    makespan: float
    utilisation: float
    warm: float
    asking: float


def simulate(jobs: list[Job], seconds: Mapping[str, float], costs: Mapping[str, float], workers: int) -> Outcome:
    """Let a schedule that believes ``costs`` run jobs that take ``seconds``."""
    started = time.perf_counter()
    schedule, clock, busy, cells, warm = Schedule(jobs, costs), 0.0, 0.0, 0, 0
    running: list[tuple[float, int, Job]] = []
    idle, memory = list(range(workers)), dict[int, str]()
    while len(schedule):
        waiting = []
        for worker in idle:
            job = schedule.next(worker)
            if job is None:
                waiting.append(worker)
                continue
            takes = seconds[job.key]
            if job.kind == "cell":
                cells += 1
                warm += memory.get(worker) == job.needs[0]
                takes += 0.0 if memory.get(worker) == job.needs[0] else LOAD
            memory[worker] = job.needs[0] if job.kind == "cell" else job.key
            busy += seconds[job.key]
            heapq.heappush(running, (clock + takes, worker, job))
        clock, worker, job = heapq.heappop(running)
        schedule.finished(job.key)
        idle = [*waiting, worker]
    asking = time.perf_counter() - started
    return Outcome(clock, 100 * busy / (workers * clock), 100 * warm / cells, asking)


def believed(jobs: list[Job], seconds: Mapping[str, float], how: str, seed: int = 0) -> dict[str, float]:
    """Return what a schedule may know: ``exact`` durations, within a factor (``noisy``), or their ``mean``."""
    rng = np.random.default_rng(seed)
    match how:
        case "exact":
            return dict(seconds)
        case "noisy":
            return {k: value * float(rng.lognormal(0, 0.5)) for k, value in seconds.items()}
        case _:
            return {job.key: job.cost for job in jobs}


@pytest.mark.parametrize("how", ["exact", "noisy", "mean"])
def test_64_workers_are_busy_95_percent_of_the_time(how: str) -> None:
    jobs, seconds = grid(10_000, 400)
    schedule = simulate(jobs, seconds, believed(jobs, seconds, how), 64)
    assert schedule.utilisation >= 95.0, schedule
    assert schedule.warm >= 80.0, schedule


SUITE = {
    "name": "large",
    "description": "8 attacks x 62 seeds x (41 defenses, of which 40 for each of 5 clean sizes)",
    "task": {"name": "reviews", "max_train": 64, "max_test": 64},
    "attack": [
        {"name": "badword", "sweep": {"from": ["pretrained", "finetuned"], "rate": [0.01, 0.02, 0.05, 0.1]}},
    ],
    "defense": [
        "none",
        "e-pur",
        {"name": "fine-mixing", "sweep": {"reserve_ratio": [i / 10 for i in range(10)], "steps": [100, 200]}},
        {"name": "e-pur+fine-mixing", "sweep": {"reserve_ratio": [i / 10 for i in range(10)], "steps": [100, 200]}},
    ],
    "seed": list(range(62)),
    "labels": [8, 16, 32, 64, 128],
}


def test_planning_100_000_cells_takes_under_10_s_and_1_gb(world: Path) -> None:
    code = f"from tests.performance.test_schedule import plan; plan({str(world / 'tiny-bert')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    cells, seconds, megabytes, spelling = map(float, done.stdout.split())
    assert cells >= 100_000
    assert seconds < max(10, 4 * spelling)  # the seconds of a slow machine, or of a busy one, are longer
    assert megabytes < 1024


def plan(model: str) -> None:
    """Plan a real suite and hand all of its jobs out.

    Print the cells, the CPU seconds, the peak megabytes of this process, and as a measure of the machine the CPU
    seconds that it takes to do no more than write out and hash the recipe of each cell the naive way.
    """
    started = time.process_time()
    made = Plan(suite.check({**SUITE, "model": model}, "large"))
    schedule = Schedule(made.jobs)
    while (job := schedule.next(0)) is not None:
        schedule.finished(job.key)
    seconds = time.process_time() - started
    # The kernel's own figure for this program; getrusage would count the process that started it as well.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    started = time.process_time()
    for cell in made.cells.values():
        recipe = json.dumps(cell_recipe(cell), sort_keys=True)
        hashlib.sha256(recipe.encode()).hexdigest()
    spelling = time.process_time() - started
    sys.stdout.write(f"{len(made.cells)} {seconds:.2f} {int(peak.split()[1]) / 1024:.0f} {spelling:.2f}\n")


def main() -> None:
    """Print the figures of many cases."""
    sys.stdout.write("cells victims workers costs    utilisation   warm  makespan  asking\n")
    for cells, victims, workers in ((10_000, 400, 64), (10_000, 400, 256), (1_000, 60, 16), (84, 12, 2)):
        for how in ("exact", "noisy", "mean"):
            jobs, seconds = grid(cells, victims, references=max(1, victims // 20))
            schedule = simulate(jobs, seconds, believed(jobs, seconds, how), workers)
            sys.stdout.write(
                f"{cells:>6} {victims:>6} {workers:>7} {how:<8} {schedule.utilisation:>9.2f} % {schedule.warm:>5.1f} % "
                f"{schedule.makespan:>9.1f} {schedule.asking:>6.2f} s\n"
            )
    sys.stdout.write("a suite planned and handed out (cells, CPU seconds, MB, CPU seconds of the recipes alone): ")
    sys.stdout.flush()
    plan("embedded")


if __name__ == "__main__":
    main()
