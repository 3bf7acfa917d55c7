"""Progress, estimates and devices: what people are told, and what a machine has."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from bench.errors import RequestError
from bench.runner import Event, Job, devices, progress, render_status, status
from bench.runner.estimates import Estimate
from bench.runner.progress import Tally
from bench.store import Store
from tests.runner.tinyjobs import grid, key


def test_a_tally_counts_and_estimates() -> None:
    jobs = grid(1, 4)  # a victim of cost 5 and four cells of cost 1
    tally = Tally(jobs)
    assert tally.seconds_left is None
    tally.add(Event("start", jobs[0]))
    tally.add(Event("done", jobs[0], seconds=50.0))
    for job in jobs[1:3]:
        tally.add(Event("start", job))
    tally.add(Event("done", jobs[1], seconds=3.0))
    assert tally.seconds_left == pytest.approx(3 * 3.0 / 2), "three cells of three seconds on two workers"
    tally.add(Event("lost", jobs[2], text="killed"))
    assert not tally.running
    tally.add(Event("failed", jobs[2], text="killed"))
    tally.add(Event("n/a", jobs[3]))
    tally.add(Event("found", jobs[4]))
    assert tally.line() == "cells 4/4 (1 failed, 1 n/a), victims 1/1, 0 running"


def test_a_victim_made_again_does_not_count_twice() -> None:
    jobs = grid(1, 1)
    tally = Tally(jobs)
    tally.add(Event("found", jobs[0]))
    tally.add(Event("start", jobs[0]))
    tally.add(Event("done", jobs[0], seconds=1.0))
    assert tally.ended("victim") == 1


def test_plain_progress_is_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = grid(1, 2)
    with progress(jobs) as tell:
        tell(Event("done", jobs[0], seconds=2.0))
        tell(Event("done", jobs[1], seconds=0.1))
        tell(Event("failed", jobs[2], text="ValueError: [red]no[/red]"))
        tell(Event("note", text="the store is gone"))
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = [line.partition(" ")[2] for line in shown.err.splitlines()]
    assert lines[:3] == ["trained: v0 in 2 s", "failed: v0c1: ValueError: [red]no[/red]", "the store is gone"]
    assert shown.err.splitlines()[3] == "cells 2/2 (1 failed), victims 1/1, 0 running"


def test_live_progress_survives_any_label(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    job = Job(key("x"), "cell", (), 1.0, "[bold]attack[/] | e-pur+fine-mixing")
    with progress([job]) as tell:
        tell(Event("start", job))
        tell(Event("lost", job, text="killed"))
        tell(Event("done", job, seconds=1.0))
    assert "[bold]attack[/]" in capsys.readouterr().err


def test_estimates_come_from_records(tmp_path: Path) -> None:
    jobs, store = grid(1, 3), Store(tmp_path)
    for job, seconds in zip(jobs[1:3], (2.0, 4.0), strict=True):
        times = {"victim": 30.0, "defense": seconds, "evaluation": 1.0}
        store.put_record(job.key, {"schema": 1, "key": job.key, "status": "done", "seconds": times})
    estimate = Estimate.of_store(jobs, store, store.keys_of_records())
    assert estimate.seconds("victim", jobs[0].cost) == pytest.approx(30.0)
    assert estimate.seconds("cell", jobs[3].cost) == pytest.approx(4.0)
    assert Estimate().seconds("cell", 7.0) == 7.0


def test_status_says_who_and_until_when(tmp_path: Path) -> None:
    from rich.console import Console

    jobs, store = grid(1, 3), Store(tmp_path)
    with store.lock(jobs[0].key):
        state = status(jobs, store)
        console = Console(width=100, file=io.StringIO(), record=True)
        console.print(render_status(state))
    assert (state.done, state.waiting, len(state.running)) == (0, 3, 1)
    assert state.seconds_left == pytest.approx(8.0)
    text = console.export_text()
    assert "waiting 3, failed 0; about 8 s left, until " in text
    assert "v0" in text


@pytest.mark.parametrize(
    ("chosen", "gpus"),
    [("0,1", ["0", "1"]), ("", []), ("-1", []), ("2, GPU-ab", ["2", "GPU-ab"]), ("0,-1,1", ["0"])],
)
def test_visible_gpus(monkeypatch: pytest.MonkeyPatch, chosen: str, gpus: list[str]) -> None:
    monkeypatch.setattr(devices, "version", lambda name: "2.13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert devices.visible_gpus() == gpus
    monkeypatch.setattr(devices, "version", lambda name: "2.13.0+cpu")
    assert devices.visible_gpus() == []


def test_gpus_are_counted_by_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA H200 (UUID: GPU-2)'\n")
    fake.chmod(0o755)
    monkeypatch.setattr(devices, "version", lambda name: "2.13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert devices.visible_gpus() == ["0", "1"]


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "visible_gpus", list)
    assert devices.choose_gpus("auto") == []
    with pytest.raises(RequestError, match="finds no GPU here"):
        devices.choose_gpus("cuda")
