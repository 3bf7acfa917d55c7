"""A published folder says what its store said, and nothing of what lay there before."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bench import report
from bench.errors import RequestError
from bench.experiment.plan import Plan
from bench.experiment.result_store import ResultStore
from bench.report.rows import records
from bench.results import publish, submission
from bench.session import Published, Session, Shown, shown_alone
from bench.store import outputs
from bench.suites import suite
from tests.performance import many_records

SUITE = {
    "name": "two-sizes",
    "description": "tasks of one name in two sizes",
    "task": [{"name": name, "max_test": many_records.EXAMPLES, "sweep": {"max_train": [20, 30]}}
             for name in ("reviews", "questions")],
    "model": "embedded",
    "attack": "badword",
    "defense": ["none", "fine-tuning", "mixing"],
    "labels": 64,
    "seed": [0, 1],
    "gate": {"min_asr": 0, "max_acc_drop": 100, "min_skill": 0},
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of two tasks in two sizes each, with its store."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "suite.yaml").write_text(json.dumps(SUITE), encoding="utf-8")
    store = ResultStore(folder / "store")
    for key, cell in Plan(suite.load(str(folder / "suite.yaml")), None).cells.items():
        store.put_record(key, many_records.record(key, cell))
    return folder


def opened(world: Path, store: str = "store", settings: tuple[str, ...] = ()) -> Session:
    return Session.open(str(world / "suite.yaml"), settings, world / store)


@pytest.fixture(scope="module")
def published(world: Path) -> Path:
    publish.publish(opened(world), world / "published")
    return world / "published"


def numbers(shown: Shown) -> dict[tuple[str, str], list[float]]:
    """Return the ACC of each defense at each place of the attack, by seed."""
    frame = report.frame(shown.rows())
    frame = frame[frame["attack"] != "clean"].sort_values(["task", "attack", "defense", "clean_size", "seed"])
    by_place = frame.groupby(["task", "attack", "defense", "clean_size"])["acc"].apply(list)
    table = report.table([row for row in shown.rows() if row.attack != "clean"], format="csv")
    return {**by_place.to_dict(), ("table", ""): table.splitlines()}


def test_tasks_of_one_name_stay_apart_in_a_folder(world: Path, published: Path) -> None:
    alone = Published(published)
    assert {row.task for row in alone.rows()} == {row.task for row in opened(world).rows()}
    assert len({row.task for row in alone.rows()}) == 4
    assert numbers(alone) == numbers(opened(world))
    assert "Means over 4 places" in (published / "RESULTS.md").read_text(encoding="utf-8")


def test_a_folder_has_a_name_wherever_one_stands(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(published)
    for folder in (Path("."), Path("../published"), Path("figures/..")):
        assert {row.suite for row in records.load(folder)} == {"published"} == {Published(folder).name}


def test_a_name_that_is_no_text_can_be_written(tmp_path: Path, published: Path) -> None:
    folder = tmp_path / "r\udce9sultats"
    try:
        folder.symlink_to(published.resolve(), target_is_directory=True)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes only text as names")
    assert records.name_of(folder) == "published"
    folder.unlink()
    folder.mkdir()
    (folder / "records.jsonl.gz").write_bytes((published / "records.jsonl.gz").read_bytes())
    for form in report.FORMATS:
        text = Published(folder).table(form)
        assert text.encode() and ("udce9sultats" in text or form == "csv")
    outputs.write(tmp_path / "table.md", Published(folder).table("md"))
    Published(folder).export("csv", tmp_path / "cells.csv")


def test_a_store_without_a_record_replaces_nothing(world: Path, tmp_path: Path, published: Path) -> None:
    ResultStore(world / "empty")
    before = {path: path.read_bytes() for path in published.rglob("*") if path.is_file()}
    with pytest.raises(RequestError, match="has no record of suite two-sizes"):
        publish.publish(opened(world, "empty"), published)
    assert before == {path: path.read_bytes() for path in published.rglob("*") if path.is_file()}
    with pytest.raises(RequestError):
        publish.publish(opened(world, "empty"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_an_earlier_version_left_is_removed(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    publish.publish(opened(world), folder)
    first = next(row for row in records.load(folder) if row.role == "defended")
    said = {first.cell_key: [{"prompt": "p", "said": "s"}], "f" * 64: [{"prompt": "q", "said": "t"}]}
    (folder / "examples.json").write_text(json.dumps(said), encoding="utf-8")
    (folder / "README.md").write_text("written by people", encoding="utf-8")
    (folder / "figures" / "older.pdf").write_bytes(b"%PDF")
    publish.publish(opened(world), folder)
    assert json.loads((folder / "examples.json").read_text(encoding="utf-8")).keys() == {first.cell_key}
    publish.publish(opened(world, settings=("defense=none", "attack=clean")), folder)
    assert not (folder / "examples.json").exists(), "no record that it speaks of is left"
    assert not [path.name for path in (folder / "figures").iterdir()], "nothing to draw"
    assert (folder / "README.md").is_file()


def test_what_tables_read_is_checked_and_added(tmp_path: Path, published: Path) -> None:
    lines = gzip.decompress((published / "records.jsonl.gz").read_bytes()).decode().splitlines()
    folder = tmp_path / "both"
    (folder / "records").mkdir(parents=True)
    for number, line in enumerate(lines[:5]):
        (folder / "records" / f"{number}.json").write_text(line, encoding="utf-8")
    rest = [json.loads(line) for line in lines[5:9]]
    (folder / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rest), encoding="utf-8")
    assert submission.check(folder).records == 9 == len(records.load(folder)) == len([*submission.records(folder)])
    rest[0]["metrics"]["acc"] = 99.9
    (folder / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rest), encoding="utf-8")
    assert [(one.file, one.field) for one in submission.check(folder).problems] == [("records.jsonl:1", "metrics.acc")]
    (folder / "records.jsonl").unlink()
    (folder / "records.jsonl").symlink_to(published / "records.jsonl.gz")
    assert "is a link" in str(submission.check(folder).problems[0])


def test_a_site_inside_a_folder_is_no_suite(tmp_path: Path, published: Path) -> None:
    folder = tmp_path / "results"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "records.jsonl.gz").write_bytes((published / "records.jsonl.gz").read_bytes())
    inside = folder / "site" / "data" / "records"
    inside.mkdir(parents=True)
    (inside / "0.js").write_text("doorbench.receive()", encoding="ascii")
    assert [one.name for one in records.folders_of(folder)] == ["a", "b"]
    with pytest.raises(RequestError, match=f"name one: {folder / 'a'}, {folder / 'b'}"):
        shown_alone(str(folder), (), None)
    (folder / "c").mkdir()
    (folder / "c" / "records.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(RequestError, match="holds no records"):
        records.load(folder / "c")
