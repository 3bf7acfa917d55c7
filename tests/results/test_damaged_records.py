"""A record with something wrong in it, at every door: folders, submissions, stores, reports, runs and commands."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bench import report
from bench.cli import app, store_printing
from bench.conformance import checks
from bench.errors import RequestError
from bench.experiment.plan import Plan
from bench.experiment.result_store import ResultStore
from bench.report import site
from bench.report.rows import records
from bench.results import submission
from bench.runner.survey import survey
from bench.session import Session
from bench.store import records as stored_records
from tests.experiment import damage

HISTORIC = [json.loads(file.read_bytes())["record"] for file in damage.FILE.parent.glob("*.json")]
OTHERS = [record for record in HISTORIC if record["status"] != "failed" and record["key"] != damage.original()["key"]]
KEY = damage.original()["key"]
quick = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def published(folder: Path, document: Any) -> Path:
    """Write a folder with good records and one document."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines = map(json.dumps, [*OTHERS, document])
    (folder / "records.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def forged(store: ResultStore, key: str, document: Any) -> Path:
    """Put a document into a store with the right hash, as a careless program would."""
    body = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    path = store.place("records", key, ".json")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'{"sha256":"%s","record":%s}\n' % (hashlib.sha256(body).hexdigest().encode(), body))
    return path


def newer(document: Any) -> bool:
    """Whether a document says that a later version wrote it, so that it is left alone."""
    schema = document.get("schema")
    return isinstance(schema, int) and schema > 1


def one_line(text: str) -> bool:
    return 0 < len(text) < 600 and text.isprintable()


@quick
@given(damage.damaged())
def test_reports_of_a_folder_refuse_it_or_show_it(tmp_path: Path, document: Any) -> None:
    try:
        rows = records.load(published(tmp_path / "folder", document))
        report.export(report.frame(rows), format="csv", path=tmp_path / "cells.csv")
        report.export(report.frame(rows), format="parquet", path=tmp_path / "cells.parquet")
        assert report.table(rows, format="md")
        for row in rows:
            assert row.cell_key[:12] in report.explain(rows, row.cell_key)
    except RequestError as error:
        assert one_line(str(error)) and "records.jsonl" in str(error)


@settings(quick, max_examples=20)
@given(damage.damaged())
def test_a_site_refuses_it_or_shows_it(tmp_path: Path, document: Any) -> None:
    try:
        rows = records.load(published(tmp_path / "folder", document))
        site.build([site.Source("one", rows)], folder=tmp_path / "site")
    except RequestError as error:
        assert one_line(str(error)) and "records.jsonl" in str(error)


@quick
@given(damage.damaged())
def test_a_check_says_what_is_wrong_in_one_line_each(tmp_path: Path, document: Any) -> None:
    for problem in submission.check(published(tmp_path / "folder", document)).problems:
        assert one_line(str(problem)) and problem.file.startswith("records.jsonl:")


@quick
@given(damage.damaged())
def test_a_store_gives_a_record_or_sets_it_aside(tmp_path: Path, document: Any) -> None:
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    store = ResultStore(tmp_path / "store")
    path = forged(store, KEY, document)
    record = store.result(KEY)
    if newer(document):
        assert record is None and path.exists()
        return
    assert path.exists() == (record is not None)
    assert len(list((store.root / "damaged").iterdir())) == (record is None)
    assert store.verify().ok and len(store.ls()) == len(store.summaries()) == (record is not None)
    if record is None:
        with pytest.raises(ValueError):
            store.put_record(KEY, document)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no records"),
        (b"\x1f\x8b\x08", "records.jsonl.gz"),
        (b"not an archive", "records.jsonl.gz.*cannot be read: Not a gzipped file"),
    ],
)
def test_a_truncated_or_foreign_archive_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "records.jsonl.gz").write_bytes(content)
    if content:
        with pytest.raises(RequestError, match=message):
            records.load(tmp_path)
        assert submission.check(tmp_path).problems
    else:
        with pytest.raises(RequestError, match=message):
            submission.check(tmp_path)


def test_an_archive_that_never_ends_is_not_unpacked(tmp_path: Path) -> None:
    import gzip

    line = json.dumps(OTHERS[0]).encode() + b" " * (1 << 20) + b"\n"
    (tmp_path / "records.jsonl.gz").write_bytes(gzip.compress(line * 300))
    (problem,) = submission.check(tmp_path).wrong
    assert "unpacks to more than" in problem.what
    (tmp_path / "records.jsonl.gz").write_bytes(gzip.compress(b" " * (65 << 20)))
    (problem,) = submission.check(tmp_path).wrong
    assert "line 1 has more than 64 MB" in problem.what


@pytest.fixture(scope="module")
def finished(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """The plan and the store of a tiny suite that was run."""
    store = ResultStore(tmp_path_factory.mktemp("finished") / "store")
    return checks.run(
        world, store, task="single", attack="badword", defense=["none", "fine-tuning(steps=4)"]
    ), store.root


@pytest.fixture
def again(finished: tuple[Plan, Path], tmp_path: Path) -> Session:
    """A copy of that store to damage."""
    shutil.copytree(finished[1], tmp_path / "store")
    return Session(finished[0], ResultStore(tmp_path / "store"))


def defended(session: Session) -> str:
    return next(key for key, cell in session.plan.cells.items() if cell.role == "defended")


@settings(quick, max_examples=60)
@given(data=st.data())
def test_a_run_does_again_what_is_no_record_and_nothing_else(finished: tuple[Plan, Path], data: st.DataObject) -> None:
    session = Session(finished[0], ResultStore(finished[1]))
    key = defended(session)
    path = session.store.place("records", key, ".json")
    good = path.read_bytes()
    document = json.loads(good)["record"]
    damaged_path = data.draw(st.sampled_from(sorted(damage.paths(document), key=str)))
    wrong = data.draw(st.sampled_from([*damage.WRONG, *damage.HUGE]))
    assume(damaged_path != ("schema",) or wrong not in damage.HUGE)  # one of a later schema is whole, and left alone
    damage.put(document, damaged_path, wrong)
    try:
        forged(session.store, key, document)
        state = survey(session.plan.jobs, session.store)
        assert ({job.key for job in state.to_do} == {key}) == (not path.exists()) and not state.failed
        rows = session.rows()
        assert [row.status for row in rows if row.cell_key == key] == (["done"] if path.exists() else ["waiting"])
    finally:
        path.write_bytes(good)


def test_a_run_makes_it_again_and_names_it(again: Session, world: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = defended(again)
    before = again.store.record(key)
    assert before is not None
    path = forged(again.store, key, {**copy.deepcopy(before), "seconds": {"victim": "abc"}})
    checks.run(world, again.store, task="single", attack="badword", defense=["none", "fine-tuning(steps=4)"])
    after = again.store.record(key)
    assert after is not None and after["predictions"] == before["predictions"]
    assert f"{path} was damaged (field seconds.victim: is 'abc', not a number)" in caplog.text


def test_a_record_that_cannot_be_read_is_reported_and_the_rest_goes_on(
    again: Session, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden, missing = defended(again), next(iter(again.plan.cells))
    path = again.store.place("records", hidden, ".json")
    again.store.place("records", missing, ".json").unlink()
    original = stored_records.read_bytes

    def read(place: Any) -> bytes:
        if Path(place) == path:
            raise PermissionError(13, "Permission denied")
        return original(place)

    monkeypatch.setattr(stored_records, "read_bytes", read)
    summary = again.run(again=False, engine="serial", device="cpu")
    assert (summary.failed, summary.done) == (1, 1) and path.exists()
    states = {row.cell_key: (row.status, row.error) for row in again.rows()}
    assert states.pop(hidden) == ("failed", f"{path} cannot be read: Permission denied.")
    assert set(states.values()) == {("done", None)}
    assert store_printing.verify(again.store.root) and "not readable, left alone" in capsys.readouterr().out
    assert len(again.store.ls()) == len(again.plan.cells) - 1 + len(again.plan.victims)


Doorbench = Callable[..., tuple[int, str]]


@pytest.fixture
def doorbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doorbench:
    """The command line in this process: returns the exit status and what was printed."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["doorbench", *arguments])
        with pytest.raises(SystemExit) as ended:
            app.main()
        printed = capsys.readouterr()
        return int(str(ended.value.code or 0)), printed.out + printed.err

    return run


def test_commands_refuse_a_folder_in_one_line(again: Session, tmp_path: Path, doorbench: Doorbench) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    lines = list(again.store.records())
    good = json.dumps(lines[1])
    lines[0]["seconds"] = {"victim": "abc"}
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    message = f"records.jsonl:1: record {lines[0]['key'][:12]}, field seconds.victim: is 'abc', not a number"
    for status, arguments in (
        (1, ("submit", "--check", str(folder))),
        (1, ("store", "add", str(folder), "--store", str(tmp_path / "mine"))),
        (2, ("site", str(folder), "--out", str(tmp_path / "site"))),
        (2, ("table", str(folder))),
        (2, ("export", str(folder))),
        (2, ("claims", str(folder))),
    ):
        code, text = doorbench(*arguments)
        assert (code, text.count(message), "Traceback" in text) == (status, 1, False), text
    (folder / "records.jsonl").write_text(good, encoding="utf-8")
    for command in ("table", "export", "claims"):
        assert doorbench(command, str(folder))[0] == 0
    code, text = doorbench("table", str(folder), "--set", "seed=1")
    assert code == 2 and "which no setting changes" in text


def test_commands_go_on_without_a_wrong_record_in_a_store(again: Session, tmp_path: Path, doorbench: Doorbench) -> None:
    suite, key = tmp_path / "suite.yaml", defended(again)
    suite.write_text(yaml.safe_dump(again.plan.suite.model_dump(mode="json", exclude_defaults=True)), encoding="utf-8")
    before = again.store.record(key)
    where = (str(suite), "--store", str(again.store.root))
    for command, more in (("table", ()), ("export", ()), ("run", ("--engine", "serial", "--device", "cpu"))):
        path = forged(again.store, key, {**(before or {}), "seconds": {"victim": "abc"}})
        code, text = doorbench(command, *where, *more)
        assert code == 0 and "Traceback" not in text
        assert path.exists() == (command == "run")
    assert again.store.result(key) is not None
