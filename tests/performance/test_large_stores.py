"""What commands say of many records: the same from columns and from single files, and nothing that is out of date."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import session
from bench.experiment import outcomes
from bench.experiment.kept import Kept
from bench.experiment.result_store import ResultStore
from bench.session import Session
from bench.store import StoreError, derived, table
from bench.store.documents import wrap
from tests import preloaded
from tests.performance.many_records import write


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    assert write(folder, 150, seeds=1, tasks=1) > 100
    return folder


def copied(made: Path, folder: Path) -> Path:
    """Copy a store with the times of its files."""
    subprocess.run(["cp", "-a", str(made), str(folder)], check=True)
    return folder


@pytest.fixture
def opened(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(table, "SMALLEST_PART", 10)
    monkeypatch.setattr(derived, "BATCH", 10)
    monkeypatch.setattr(session, "MANY", 10)
    monkeypatch.chdir(copied(made, tmp_path / "copy"))
    return Session.open("suite.yaml", (), Path("store"))


ANSWERS: dict[str, Callable[[Session], Any]] = {
    "csv": lambda one: one.table("csv"),
    "terminal": lambda one: one.table("terminal"),
    "export": lambda one: one.export("csv", None),
    "jsonl": lambda one: one.export("jsonl", None),
}


def from_files(store: ResultStore, keys: Any) -> Kept:
    """Return every record as its file has it."""
    return Kept({key: record for key in keys if (record := store.result(key)) is not None}, {})  # type: ignore[misc]


@pytest.mark.parametrize("ask", ANSWERS.values(), ids=ANSWERS)
def test_both_ways_say_the_same(
    opened: Session, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Session], Any]
) -> None:
    cold, warm = ask(opened), ask(opened)
    monkeypatch.setattr(session, "MANY", 10**9)
    without_answers = ask(opened)
    monkeypatch.setattr(ResultStore, "kept", from_files)
    assert ask(opened) == without_answers == warm == cold


def test_the_listing_says_the_same(opened: Session) -> None:
    def rows() -> list[Any]:
        return [(row.key, row.kind, row.task, row.attack, row.defense, row.seed, row.status, row.bytes)
                for row in opened.store.ls()]  # fmt: skip

    first = rows()
    assert rows() == first and len(first) == len(opened.plan.cells)
    for path in (opened.store.root / "compact").iterdir():
        path.unlink()
    assert rows() == first


def harmed(opened: Session) -> Path:
    key = next(key for key, cell in opened.plan.cells.items() if cell.role == "defended")
    return opened.store.place("records", key, ".json")


def changed(path: Path) -> None:
    document = ResultStore(path.parents[2], create=False).record(path.stem)
    assert document is not None
    path.write_bytes(wrap({**document, "metrics": {**document["metrics"], "acc": 12.5}}))


def flipped(digit: re.Match[bytes]) -> bytes:
    return bytes([digit[0][0] ^ 1])


HARMS: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "changed": changed,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "flipped": lambda path: path.write_bytes(re.sub(rb'(?<="acc":)\d', flipped, path.read_bytes(), count=1)),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
@pytest.mark.parametrize("ask", [ANSWERS["csv"], ANSWERS["export"]], ids=["csv", "export"])
def test_an_answer_never_hides_what_happened_to_a_record(
    opened: Session, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Session], Any], harm: Callable[[Path], object]
) -> None:
    before = ask(opened), ask(opened)
    path = harmed(opened)
    whole = path.read_bytes()
    harm(path)
    after = ask(opened)
    assert after != before[0] and before[0] == before[1]
    monkeypatch.setattr(session, "MANY", 10**9)
    monkeypatch.setattr(ResultStore, "kept", from_files)
    assert ask(opened) == after
    monkeypatch.undo()
    path.write_bytes(whole)  # what is added again is there again
    assert ask(opened) == before[0]


def test_a_failure_shows_at_once(opened: Session) -> None:
    path = harmed(opened)
    path.unlink()
    before = opened.table("csv")
    failure = {"schema": 1, "key": path.stem, "kind": "cell", "status": "failed", "label": "a", "error": "it broke"}
    opened.store.put_failure(path.stem, failure)
    assert "it broke" in opened.table("csv") != before
    opened.store.drop_failure(path.stem)
    assert opened.table("csv") == before


def failures(opened: Session) -> str:
    return opened.remembered(("failures",), lambda rows: "".join(row.failure for row in rows if row.failure))


def test_an_answer_of_records_that_could_not_be_read_is_not_kept(
    opened: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.store import records

    path, real = harmed(opened), records.read_bytes

    def failing(file: Path) -> bytes:
        if file == path:
            raise OSError(5, "Input/output error")
        return real(file)

    monkeypatch.setattr(records, "read_bytes", failing)
    assert "Input/output error" in failures(opened)
    monkeypatch.setattr(records, "read_bytes", real)
    assert failures(opened) == ""


def test_another_setting_is_another_question(opened: Session) -> None:
    first = opened.table("csv")
    strict = Session.open("suite.yaml", ["gate.min_asr=99.9"], Path("store"))
    assert strict.table("csv") != first == opened.table("csv")


def test_predictions_of_a_record_that_vanished_are_an_error_of_one_line(opened: Session) -> None:
    rows = opened.rows()
    row = next(row for row in rows if row.cell_key == harmed(opened).stem)
    harmed(opened).unlink()
    with pytest.raises(StoreError, match="has changed since"):
        assert row.outcomes["acc"] is not None


def test_outcomes_are_those_of_the_files(opened: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = list(opened.plan.cells)
    whole = {key: record for key in cells if (record := opened.store.result(key)) is not None and record.predicted}
    for turn in range(3):
        kept = opened.store.kept(cells).records
        for key, record in whole.items():
            for name, wanted in record.outcomes.items():
                ours = kept[key].outcomes[name]
                assert (ours is None) == (wanted is None)
                assert wanted is None or np.array_equal(ours, wanted, equal_nan=True)
        assert set(kept[key].outcomes) == set(record.outcomes)
        if turn == 1:  # what is in columns is not read from files
            monkeypatch.setattr(derived, "read_with_status", lambda path: (_ for _ in ()).throw(OSError(5, "no")))
            assert list((opened.store.root / "compact").glob("*.outcomes"))


def test_outcomes_of_a_record_that_changed_are_not_taken_from_columns(opened: Session) -> None:
    cells = list(opened.plan.cells)
    for _ in range(2):
        kept = opened.store.kept(cells).records
        before = {key: np.array(one.outcomes["acc"]) for key, one in kept.items() if one.predicted}
    path = harmed(opened)
    document = opened.store.record(path.stem)
    assert document is not None
    document["predictions"]["clean"]["label"] = document["predictions"]["clean"]["gold"]
    path.write_bytes(wrap(document))
    kept = opened.store.kept(cells).records
    assert (kept[path.stem].outcomes["acc"] == 1).all() and not (before[path.stem] == 1).all()
    assert all(np.array_equal(kept[key].outcomes["acc"], one) for key, one in before.items() if key != path.stem)


@given(st.lists(st.sampled_from([0.0, 1.0, float("nan"), 0.5, 1e-300, 3.5]), max_size=40))
def test_outcomes_are_unpacked_as_they_were_packed(values: list[float]) -> None:
    for some in (values, [value for value in values if value in (0, 1)]):
        packed = outcomes.pack(np.array(some))
        assert np.array_equal(outcomes.unpack(packed), np.array(some), equal_nan=True)
    assert len(outcomes.pack(np.ones(800))) == 105, "a bit for each"


LIMITS = {"table": 15, "export": 5, "status": 5, "site": 120, "claims": 15, "store ls": 5}  # seconds
COMMANDS = {
    "table": ("table", "suite.yaml"),
    "export": ("export", "suite.yaml", "--out", "cells.csv"),
    "status": ("status", "suite.yaml"),
    "site": ("site", "suite.yaml", "--out", "site"),
    "claims": ("claims", "suite.yaml"),
    "store ls": ("store", "ls"),
}


MOST_MEMORY = 2.0  # GB


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite and a store of 200,000 records."""
    folder = tmp_path_factory.mktemp("full")
    write(folder, 200_000, seeds=5)
    return folder


def took(program: list[str], folder: Path, name: str) -> tuple[float, float]:
    """Return the seconds and the GB of peak memory of a command, in a process of its own."""
    began = time.perf_counter()
    command = [*program, *COMMANDS[name], "--store", "store"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return time.perf_counter() - began, used.ru_maxrss / 2**20


@pytest.mark.benchmark(group="commands on a store of many records, after one of them changed")
@pytest.mark.parametrize("name", LIMITS)
def test_commands(benchmark: Any, made: Path, tmp_path: Path, request: pytest.FixtureRequest, name: str) -> None:
    if benchmark.disabled:
        folder, program = copied(made, tmp_path / "copy"), [preloaded.program()]
    else:
        folder, program = request.getfixturevalue("many"), [sys.executable, "-m", "bench"]
        benchmark.extra_info["at most, seconds"], benchmark.extra_info["at most, GB"] = LIMITS[name], MOST_MEMORY
        shutil.rmtree(folder / "store" / "compact")
        benchmark.extra_info["first time, seconds"], benchmark.extra_info["first time, GB"] = took(
            program, folder, name
        )

    def changed_since() -> None:
        os.utime(next((folder / "store" / "records").rglob("*.json")))

    _, memory = benchmark.pedantic(took, args=(program, folder, name), setup=changed_since, rounds=1)
    benchmark.extra_info["GB"] = memory
    benchmark.extra_info["again, seconds"] = took(program, folder, name)[0]
