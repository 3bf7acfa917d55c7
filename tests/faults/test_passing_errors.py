"""Errors of a disk that pass, and stores that can only be read: what a run makes of them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import runner
from bench.cli import app as cli
from bench.errors import RequestError
from bench.runner import Event, Worker, worker
from bench.store import Store
from tests.faults import injector
from tests.faults.faultjobs import execute, grid, key
from tests.faults.test_full_disk import finished as finished

CODES = {"EIO": errno.EIO, "ESTALE": errno.ESTALE}
Fail = Callable[..., list[str]]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Let the next calls of a kind fail on paths with some words in them; return what failed."""

    def prepare(call: str, code: int, words: str, times: int) -> list[str]:
        real, failed = getattr(os, call), list[str]()

        def failing(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            if words in str(path) and len(failed) < times:
                failed.append(str(path))
                raise OSError(code, os.strerror(code), str(path))
            return real(path, *arguments, **options)

        monkeypatch.setattr(os, call, failing)
        return failed

    return prepare


def go(store: Store, events: list[Event] | None = None) -> runner.Summary:
    options: dict[str, Any] = {} if events is None else {"on_event": events.append}
    return runner.run(grid(2, 3, pause=0.0), store=store, execute=execute, engine="serial", device="cpu", **options)


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("open", "manifest.json"),
        ("open", "store/records"),
        ("open", "weights.json"),
        ("listdir", "store/claims"),
        ("lstat", "store/artifacts"),
        ("scandir", "store/records"),
        ("scandir", "store/temp/"),
        ("mkdir", "store/temp"),
        ("rename", "store/temp"),
        ("link", "store/temp"),
        ("unlink", "store/failures"),
        ("stat", "store.json"),
    ],
)
def test_one_error_that_passes_costs_nothing(tmp_path: Path, fail: Fail, call: str, words: str, code: int) -> None:
    store, events = Store(tmp_path / "store"), list[Event]()
    runner.run(grid(2, 1, pause=0.0)[:2], store=store, execute=execute, engine="serial", device="cpu")
    failed = fail(call, code, words, 1)
    summary = go(store, events)
    assert (summary.failed, summary.done + summary.skipped) == (0, 9)
    assert failed, "this call is made"
    assert not store.keys_of_failures()
    assert not store.locks()
    assert store.verify().ok
    for event in events:
        assert "Traceback" not in event.text
        assert not event.text or str(store.root) in event.text


@pytest.mark.parametrize("command", ["site", "submit"])
def test_no_record_is_left_out_in_silence(tmp_path: Path, finished: Path, fail: Fail, command: str) -> None:
    """A folder that cannot be read is an error, whatever else is there."""
    shutil.copytree(finished / "store" / "records", tmp_path / "results" / "tiny" / "records")
    fail("scandir", errno.EIO, "tiny/records/", 1)
    arguments = {"site": ("results", f"--out={tmp_path / 'site'}"), "submit": ("--check", "results/tiny")}[command]
    with contextlib.chdir(tmp_path):
        assert run_cli(command, *arguments) != 0


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_an_error_that_stays_names_the_store_and_costs_the_jobs_that_meet_it(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    real = os.rename

    def rename(source: Any, target: Any) -> None:
        if key("v1") in str(target):
            raise OSError(code, os.strerror(code), str(source))
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    summary = go(store)
    assert (summary.failed, summary.done) == (4, 5), "v1 and its cells"
    error = (store.failure(key("v1")) or {})["error"]
    assert error == f"the store {store.root} is in trouble: {os.strerror(code)}."
    monkeypatch.undo()
    for job in grid(2, 3, pause=0.0):
        store.drop_failure(job.key)
    assert go(store).failed == 0


def test_whatever_a_store_raises_a_worker_gives_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No error of the system leaves an attempt, whichever method of the store it comes from."""
    job = grid(1, 1, pause=0.0)[0]
    for method in ("artifact", "lock", "failure", "put_artifact", "drop_failure"):
        for code in (errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EROFS, errno.ENAMETOOLONG, errno.EMFILE):

            def broken(self: Store, *arguments: Any, code: int = code, **options: Any) -> None:
                raise OSError(code, os.strerror(code), str(self.root / "x"))

            store = Store(tmp_path / f"{method} {code}")
            with monkeypatch.context() as patch:
                patch.setattr(Store, method, broken)
                result = worker.attempt(job, store, execute, Worker())
            assert result.ending == ("stop" if code in (errno.ENOSPC, errno.EROFS) else "trouble"), method
            assert str(store.root) in result.error
            assert "\n" not in result.error


def test_trouble_in_the_runner_itself_is_one_line(tmp_path: Path, fail: Fail) -> None:
    store = Store(tmp_path / "store")
    fail("scandir", errno.EIO, "store/records", 10**6)
    with pytest.raises(RequestError, match="is in trouble: Input/output error") as caught:
        go(store)
    assert "\n" not in str(caught.value)


def run_cli(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["doorbench", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("command", ["run", "retry", "status", "table", "claims"])
def test_a_finished_store_that_can_only_be_read(
    finished: Path, small_disk: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Nothing is to be done, so nothing has to be written."""
    store = small_disk / "store"
    shutil.copytree(finished / "store", store, ignore=shutil.ignore_patterns("artifacts", "reports"))
    (store / "artifacts").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    device = ["--device=cpu"] if command in ("run", "retry") else []
    assert run_cli(command, str(finished / "tiny.yaml"), f"--store={store}", *device) == 0
    output = capsys.readouterr()
    assert "Traceback" not in output.err + output.out
    if device:
        assert "badword" in output.out
        assert "no figures: " in output.out
        assert "Read-only file system" in output.out


def test_a_small_share_of_the_injector(tmp_path: Path) -> None:
    figures = injector.inject(tmp_path, faults=10, rate=0.02, seed=1, seconds=8.0, inputs=0)
    assert figures.faults >= 10
    assert figures.good, figures.table() + "\n".join(figures.tracebacks)
