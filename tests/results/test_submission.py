"""A folder of records is believed in nothing that can be computed again."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.cli import store_printing
from bench.conformance import checks
from bench.contracts import Predictions
from bench.errors import RequestError
from bench.experiment import predictions
from bench.experiment.record import Record
from bench.experiment.result_store import ResultStore
from bench.keys import key_of
from bench.results import publish, submission
from bench.store.documents import wrap


@pytest.fixture(scope="module")
def records(world: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The records of a tiny suite, written as plain files."""
    store = ResultStore(tmp_path_factory.mktemp("store"))
    defenses = ["none", "fine-tuning(steps=4)", "e-pur+fine-tuning(steps=4)"]
    checks.run(world, store, task="single", attack="badword", defense=defenses)
    assert submission.check(store.root).problems == []
    return list(store.records())


def write(folder: Path, records: list[dict[str, Any]]) -> Path:
    for i, record in enumerate(records):
        (folder / f"{i}.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def defended(records: list[dict[str, Any]]) -> int:
    return next(i for i, record in enumerate(records) if record["cell"]["defense"].startswith("fine-tuning"))


def _set(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        for name in path[:-1]:
            record = record[name]
        record[path[-1]] = value

    return change


def test_good_records_pass_in_every_form(records: list[dict[str, Any]], tmp_path: Path) -> None:
    checked = submission.check(write(tmp_path, records))
    assert (checked.records, checked.problems) == (len(records), [])
    lines = tmp_path / "lines"
    lines.mkdir()
    (lines / "all.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    assert submission.check(lines).problems == []


def test_published_records_are_added_to_a_store(records: list[dict[str, Any]], tmp_path: Path) -> None:
    published = tmp_path / "published"
    published.mkdir()
    lines = "\n".join(map(json.dumps, records)).encode()
    (published / "records.jsonl.gz").write_bytes(gzip.compress(lines))
    (published / publish.LEADERBOARD).write_text("[]", encoding="utf-8")
    target = ResultStore(tmp_path / "target")
    target.put_record(records[0]["key"], records[0])
    assert store_printing.add(target.root, published)
    assert list(target.records()) == sorted(records, key=lambda record: str(record["key"]))


def test_nothing_is_added_where_a_record_is_wrong(records: list[dict[str, Any]], tmp_path: Path) -> None:
    changed = copy.deepcopy(records)
    changed[defended(records)]["metrics"]["acc"] += 1
    (tmp_path / "records").mkdir()
    write(tmp_path / "records", changed)
    assert not store_printing.add(tmp_path / "target", tmp_path)
    assert not list(ResultStore(tmp_path / "target").records())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_set("recipe", "victim", "rooms", "learning", value=0), "recipe.victim.rooms.learning"),
        (_set("recipe", "victim", "attack", "version", value=0), "recipe.attack badword"),
        (_set("recipe", "defense", "version", value=0), "recipe.defense fine-tuning"),
    ],
)
def test_records_of_another_version_are_left_out_and_counted(
    records: list[dict[str, Any]],
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    field: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = copy.deepcopy(records)
    record = old[defended(old)]
    change(record)
    recipe = record["recipe"]
    record["victim_key"] = key_of(recipe["victim"])
    record["key"] = key_of({**recipe, "victim": record["victim_key"]})
    checked = submission.check(write(tmp_path, old))
    assert [problem.field for problem in checked.problems] == [field]
    assert (checked.outdated, checked.wrong) == ({record["key"]}, [])
    assert store_printing.add(tmp_path / "target", tmp_path)
    assert {one["key"] for one in ResultStore(tmp_path / "target").records()} == {one["key"] for one in old} - {
        record["key"]
    }
    assert "1 is of another version and to be run again" in capsys.readouterr().out


def test_a_truncated_archive_is_a_problem(records: list[dict[str, Any]], tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(records[0]).encode())
    (tmp_path / "records.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (problem,) = submission.check(tmp_path).problems
    assert problem.file == "records.jsonl.gz"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_set("metrics", "acc", value=99.9), "metrics.acc"),
        (_set("metrics", "asr", value=0.0), "metrics.asr"),
        (_set("metrics", "ra", value=None), "metrics.ra"),
        (_set("key", value="0" * 64), "key"),
        (_set("victim_key", value="0" * 64), "victim_key"),
        (_set("recipe", "labels", value=8), "key"),
        (_set("recipe", "victim", "seed", value=3), "victim_key"),
        (_set("cell", "defense", value="e-pur"), "cell.defense"),
        (_set("cell", "attack", value="badsent"), "cell.attack"),
        (_set("cell", "target", value=0), "cell.target"),
        (_set("schema", value=99), "schema"),
        (_set("status", value="failed"), "status"),
        (_set("recipe", "victim", "rooms", value={"learning": 0}), "victim_key"),
        (_set("recipe", "defense", "version", value=99), "key"),
        (_set("environment", "torch", value=""), "environment.torch"),
        (_set("predictions", "clean", "label", value="AAAA"), "predictions"),
        (_set("recipe", value=[]), "recipe"),
        (lambda record: record.pop("predictions"), "predictions"),
    ],
)
def test_tampering_is_caught_and_named(
    records: list[dict[str, Any]], tmp_path: Path, change: Callable[[dict[str, Any]], None], field: str
) -> None:
    tampered = copy.deepcopy(records)
    record = tampered[defended(tampered)]
    before = record["key"]
    change(record)
    problems = submission.check(write(tmp_path, tampered)).problems
    assert field in [problem.field for problem in problems], problems
    assert all(str(defended(records)) in problem.file for problem in problems)
    assert before[:12] in str(problems[0]) or field == "key"


def test_other_test_examples_and_doubles_are_caught(records: list[dict[str, Any]], tmp_path: Path) -> None:
    tampered = copy.deepcopy(records)
    record = tampered[defended(tampered)]
    part = predictions.decode(record["predictions"]["clean"])
    keep = part.labels == part.gold
    verdicts = Predictions(part.labels[keep], part.probabilities[keep], part.rejected[keep])
    record["predictions"]["clean"] = predictions.encode(part.gold[keep], verdicts)
    record["metrics"]["acc"] = 100.0
    problems = submission.check(write(tmp_path, tampered)).problems
    assert any(problem.field == "predictions.clean.gold" for problem in problems)
    write(tmp_path, [*records, records[0]])
    assert submission.check(tmp_path).problems == []  # suites may share cells
    write(tmp_path, [*records, {**records[0], "seconds": {}}])
    assert any("with other content" in problem.what for problem in submission.check(tmp_path).problems)


def test_a_changed_file_of_a_store_is_caught(records: list[dict[str, Any]], tmp_path: Path) -> None:
    raw = wrap(records[0])
    assert b'"seed":0' in raw
    (tmp_path / "a.json").write_bytes(raw.replace(b'"seed":0', b'"seed":1', 1))
    (tmp_path / "b.json").write_text("{}", encoding="utf-8")
    (tmp_path / "c.json").write_text("no", encoding="utf-8")
    checked = submission.check(tmp_path)
    assert [problem.field for problem in checked.problems] == ["sha256", "file", "file"]


def test_folders_without_records(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds no records"):
        submission.check(tmp_path)
    with pytest.raises(RequestError, match="there is no folder"):
        submission.check(tmp_path / "nowhere")


def test_rejections_count(records: list[dict[str, Any]]) -> None:
    record = copy.deepcopy(records[defended(records)])
    record["metrics"]["frr"] = 0.0
    assert "metrics.far" in [field for field, _ in submission._wrong(Record.of(record))]
    assert np.isclose(record["metrics"]["acc"], records[defended(records)]["metrics"]["acc"])
