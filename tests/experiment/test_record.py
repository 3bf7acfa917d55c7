"""A record is what its type says, or it is refused in one line that names the field."""

from __future__ import annotations

import copy
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from bench.experiment import record_files
from bench.experiment.record import Failure, Record
from bench.experiment.result_store import ResultStore
from bench.experiment.stored_fields import WrongField
from bench.report.rows import records
from bench.results import publish
from bench.store.documents import wrap
from tests.experiment import damage

ROOT = Path(__file__).parents[2]
COMMITTED = sorted((ROOT / "results").rglob("records.jsonl.gz"))
HISTORIC = sorted((ROOT / "tests" / "historic_records").glob("v*/*.json"))


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: str(file.parent.relative_to(ROOT)))
def test_committed_records_are_written_as_they_were_read(file: Path) -> None:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            assert json.dumps(Record.of(json.loads(line)).document(), sort_keys=True) + "\n" == line


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: str(file.parent.relative_to(ROOT)))
def test_a_folder_is_published_with_the_bytes_it_was_read_from(file: Path) -> None:
    rows = records.load(file.parent)
    assert gzip.decompress(publish.packed(rows)) == gzip.decompress(file.read_bytes())


@pytest.mark.parametrize("file", HISTORIC, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_historic_records_are_written_as_they_were_read(file: Path) -> None:
    document = json.loads(file.read_bytes())["record"]
    kind = Failure if document["status"] == "failed" else Record
    assert wrap(kind.of(document).document()) == file.read_bytes()


def test_what_later_versions_add_is_kept() -> None:
    added = {**damage.original(), "later": {"deep": [1, 2.0, None]}}
    added["recipe"] = {**added["recipe"], "also": True}
    assert Record.of(added).document() == added


@given(damage.damaged())
def test_every_damage_is_refused_by_its_field_or_changes_nothing_else(document: Any) -> None:
    try:
        record = Record.of(document)
    except WrongField as error:
        message = str(error)
        assert len(message) < 400 and message.isprintable() and (error.field or "mapping" in message)
    else:
        assert json.dumps(record.document(), sort_keys=True) == json.dumps(document, sort_keys=True)


@pytest.mark.parametrize("wrong", damage.WRONG, ids=lambda value: str(value)[:20] or "empty")
@pytest.mark.parametrize("path", damage.TYPED, ids=".".join)
def test_a_wrong_type_is_named(path: tuple[str, ...], wrong: Any) -> None:
    document = copy.deepcopy(damage.original())
    before = damage.put(document, path, wrong)
    if before is None or wrong is None or damage.kind(before) == damage.kind(wrong):
        return  # of the right type, or a field that may have none
    with pytest.raises(WrongField) as caught:
        Record.of(document)
    named, changed = caught.value.field, ".".join(path)
    assert named.startswith(changed) or changed.startswith(named), caught.value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("seconds", "victim"), "abc", "field seconds.victim: is 'abc', not a number"),
        (("seconds", "victim"), -1, "field seconds.victim: is -1, not a number of seconds"),
        (("metrics", "acc"), float("nan"), "field metrics.acc: is nan, not a finite number"),
        (("metrics", "acc"), 101.0, "field metrics.acc: is 101.0, not a number of percent"),
        (("notes", "tried"), [{"value": "x"}], "field notes.tried.0.value: is 'x', not a number"),
        (("cell", "seed"), 10**400, "field cell.seed: is 100000000"),
        (("cell", "task"), "half \ud800", "field cell.task: is 'half \\ud800', not a JSON value"),
        (("status",), "failed", "field status: should be 'done' or 'n/a', not 'failed'"),
        (("metrics",), None, "field metrics: are missing, although the cell is done"),
        (("recipe", "victim", "attack"), {"name": "x"}, "field recipe.victim.attack: should have a version"),
    ],
)
def test_the_line_says_what_is_wrong(path: tuple[str, ...], value: Any, message: str) -> None:
    document = copy.deepcopy(damage.original())
    damage.put(document, path, value)
    with pytest.raises(WrongField) as caught:
        Record.of(document)
    assert str(caught.value).startswith(message)


def test_a_cell_that_makes_no_sense_has_a_reason_and_no_numbers() -> None:
    document = {**damage.original(), "status": "n/a", "error": "", "metrics": None, "predictions": None}
    with pytest.raises(WrongField, match="field error: should say why"):
        Record.of(document)
    assert Record.of({**document, "error": "a reason"}).status == "n/a"
    detected = {**document, "status": "done", "role": "detected", "error": None}
    with pytest.raises(WrongField, match="suspicion"):
        Record.of(detected)


def test_a_cell_with_numbers_has_no_reason_for_having_none(tmp_path: Path) -> None:
    document = damage.original()
    assert document["status"] == "done" and document["error"] is None
    for error in ("CUDA out of memory", ""):
        with pytest.raises(WrongField, match="field error: says why the cell has no numbers, although it is done"):
            Record.of({**document, "error": error})
    wrong = {**document, "error": "it broke"}
    with pytest.raises(ValueError, match="although it is done"):
        ResultStore(tmp_path / "store").put_record(wrong["key"], wrong)
    folder = tmp_path / "sent"
    folder.mkdir()
    (folder / "one.json").write_text(json.dumps(wrong), encoding="utf-8")
    (problem,) = record_files.read([folder / "one.json"])
    assert isinstance(problem, record_files.Problem) and problem.field == "error"
    path = ResultStore(tmp_path / "store").place("records", wrong["key"], ".json")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(wrap(wrong))
    assert ResultStore(tmp_path / "store").result(wrong["key"]) is None and not path.exists(), "it is set aside"


def test_commands_and_functions_open_stores_that_check_records() -> None:
    unchecked = [
        str(path)
        for path in (ROOT / "bench").rglob("*.py")
        if path.parent.name not in ("store", "runner") and re.search(r"(?<![A-Za-z])Store\(", path.read_text())
        if path.name != "result_store.py"
    ]
    assert not unchecked
