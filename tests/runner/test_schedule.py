"""The order of jobs, as a pure object."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.runner.jobs import Job
from bench.runner.schedule import Schedule
from tests.runner.tinyjobs import grid, key


@given(st.integers(1, 5), st.integers(0, 6), st.integers(1, 4), st.integers(0, 1000))
def test_everything_is_done_once_and_after_its_needs(victims: int, cells: int, workers: int, seed: int) -> None:
    rng, jobs = random.Random(seed), grid(victims, cells)
    rng.shuffle(jobs)
    schedule, done, busy = Schedule(jobs), set[str](), dict[int, Job]()
    while len(schedule):
        for worker in range(workers):
            if worker not in busy and (job := schedule.next(worker)) is not None:
                assert set(job.needs) <= done
                busy[worker] = job
        worker = rng.choice(sorted(busy))
        job = busy.pop(worker)
        match rng.randrange(8):
            case 0:
                schedule.resume(job.key)
            case 1:
                schedule.postponed(job.key)
                schedule.resume(job.key)
            case _:
                assert job.key not in done
                done.add(job.key)
                schedule.finished(job.key)
    assert done == {job.key for job in jobs}


def test_longest_victim_first_and_cells_stay_with_their_victim() -> None:
    jobs = [*grid(2, 8), Job(key("long"), "victim", (), 50.0, "long")]
    schedule = Schedule(jobs)
    order = [schedule.next(worker) for worker in range(3)]
    assert [job.label for job in order if job][0] == "long"
    for job in order:
        assert job is not None
        schedule.finished(job.key)
    homes = {worker: job.label for worker, job in enumerate(order) if job}
    for worker in (1, 2):
        cell = schedule.next(worker)
        assert cell is not None
        assert cell.label.startswith(homes[worker])


def test_a_failed_victim_takes_its_cells_with_it() -> None:
    schedule = Schedule(grid(2, 3))
    first = schedule.next(0)
    assert first is not None
    dropped = schedule.failed(first.key)
    assert {job.needs[0] for job in dropped} == {first.key}
    assert len(dropped) == 3
    assert len(schedule) == 4


def test_circles_and_doubles_are_refused() -> None:
    a, b = Job(key("a"), "victim", (key("b"),)), Job(key("b"), "victim", (key("a"),))
    with pytest.raises(ValueError, match="circle"):
        Schedule([a, b])
    with pytest.raises(ValueError, match="two jobs"):
        Schedule([a, Job(key("a"), "cell")])
