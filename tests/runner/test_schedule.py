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


def test_a_cell_starts_as_soon_as_its_own_victim_is_there() -> None:
    schedule = Schedule(grid(3, 2))
    victims = [schedule.next(worker) for worker in range(3)]
    assert schedule.next(3) is None
    assert victims[0] is not None
    schedule.finished(victims[0].key)
    cell = schedule.next(3)
    assert cell is not None
    assert cell.needs == (victims[0].key,)


def test_the_victim_with_the_longest_chain_goes_first() -> None:
    clean = Job(key("clean"), "victim", (), 2.0, "clean")
    heir = Job(key("heir"), "victim", (clean.key,), 3.0, "heir")
    lone = Job(key("lone"), "victim", (), 4.0, "lone")
    schedule = Schedule([lone, heir, clean])
    first = schedule.next(0)
    assert first is clean, "5 seconds hang on it, 4 on the longer one"


def test_measured_costs_replace_estimates() -> None:
    jobs = [Job(key(name), "victim", (), 1.0, name) for name in ("a", "b", "c")]
    schedule = Schedule(jobs, {key("b"): 9.0})
    first = schedule.next(0)
    assert first is not None
    assert first.label == "b"


def test_a_worker_without_cells_of_its_own_helps_where_most_is_left() -> None:
    jobs = [*grid(1, 40), *(Job(key(f"w{c}"), "cell", (key("w"),), 1.0, f"w{c}") for c in range(20))]
    schedule = Schedule([*jobs, Job(key("w"), "victim", (), 5.0, "w")])
    for worker in range(2):
        job = schedule.next(worker)
        assert job is not None
        schedule.finished(job.key)
    helper = schedule.next(2)
    assert helper is not None
    assert helper.label.startswith("v0"), "40 seconds for two workers are more than 20"


def test_the_longest_cell_is_not_left_for_the_end() -> None:
    jobs = [*grid(2, 10), Job(key("long"), "cell", (key("v1"),), 15.0, "long")]
    schedule = Schedule(jobs)
    for worker in range(2):
        job = schedule.next(worker)
        assert job is not None
        schedule.finished(job.key)
    first = schedule.next(0)
    assert first is not None
    assert first.label == "long"


def test_a_missing_victim_comes_back_and_its_cell_waits() -> None:
    jobs = grid(1, 2)
    schedule = Schedule(jobs[1:])  # the victim seemed to be there
    cell = schedule.next(0)
    assert cell is not None
    schedule.missing(cell.key, jobs[0])
    other = schedule.next(1)
    assert other is jobs[0], "victims go first"
    second = schedule.next(2)
    assert second is not None
    schedule.missing(second.key, jobs[0])
    assert schedule.next(3) is None
    schedule.finished(jobs[0].key)
    assert {schedule.next(0), schedule.next(1)} == set(jobs[1:])


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
