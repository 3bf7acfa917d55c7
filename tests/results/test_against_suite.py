"""What a submission leaves out, makes up or turns into n/a, and what a second run finds."""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.cli import app as cli
from bench.errors import RequestError
from bench.results import rerun, submission
from bench.suites.suite import Suite
from tests.faults import hostile_folders
from tests.faults.hostile_folders import HARMS, Record, is_done, verdict, write


@pytest.fixture(scope="module")
def good(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Suite, list[Record]]]:
    yield hostile_folders.good(tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize("name", HARMS)
def test_folders_that_mean_harm(good: tuple[Suite, list[Record]], tmp_path: Path, name: str) -> None:
    suite, records = good
    assert verdict(tmp_path / "folder", partial(HARMS[name], records=records, dice=random.Random(0)), suite)


def test_good_records_pass_with_their_suite(good: tuple[Suite, list[Record]], tmp_path: Path) -> None:
    suite, records = good
    write(tmp_path, records)
    checked = submission.check(tmp_path, suite)
    assert (checked.problems, checked.missing) == ([], "")
    assert [record["status"] for record in records].count("n/a") == 0
    assert not any("suite" in note for note in checked.notes)
    assert any("no suite.yaml" in note for note in submission.check(tmp_path).notes)


def test_what_is_missing_is_said(good: tuple[Suite, list[Record]], tmp_path: Path) -> None:
    suite, records = good
    fields = suite.model_dump(mode="json", exclude_defaults=True, exclude={"profiles"})
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    kept = [record for record in records if record["cell"]["seed"] == 0]
    write(tmp_path, kept)
    missing = submission.check(tmp_path).missing
    assert missing.startswith(f"{len(records) - len(kept)} of {len(records)} cells of the suite have no record: ")
    assert "seed 1" in missing
    assert missing.endswith("; ...")


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ("n/a for any reason", "error", "the combination makes sense"),
        ("another seed, with its keys", "recipe", "of no cell of the suite"),
        ("other data, with its keys", "recipe.victim.task.fingerprint", "the data here have"),
        ("other weights, with its keys", "recipe.victim.model.weights", "the model here has"),
        ("predictions of another seed", "predictions.clean", "which has the seed "),
        ("link to the root", "file", "is a link; records lie in plain files"),
        ("pipe of another name", "file", "is a pipe or a device"),
    ],
)
def test_the_line_says_what_is_wrong(
    good: tuple[Suite, list[Record]], tmp_path: Path, change: str, field: str, words: str
) -> None:
    suite, records = good
    HARMS[change](tmp_path / "folder", records, random.Random(0))
    problems = submission.check(tmp_path / "folder", suite).problems
    assert [(p.field, words in p.what) for p in problems if p.field == field] == [(field, True)], problems


def test_reasons_that_are_right(good: tuple[Suite, list[Record]], tmp_path: Path) -> None:
    """A cell that makes no sense: its own reason passes, another one does not, and numbers do not either."""
    _, records = good
    record = next(copy.deepcopy(record) for record in records if is_done(record))
    record["recipe"]["labels"] = record["cell"]["clean_size"] = 10**6
    hostile_folders.rekeyed(record)
    write(tmp_path / "done", [record])
    (problem,) = submission.check(tmp_path / "done").problems
    assert "is done, although 1000000 clean labels wanted" in problem.what
    hostile_folders.made_senseless(record)
    record["error"] = problem.what.removeprefix("is done, although ")
    write(tmp_path / "right", [record])
    assert submission.check(tmp_path / "right").problems == []


def test_three_cells_run_again(
    good: tuple[Suite, list[Record]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    suite, records = good
    fields = suite.model_dump(mode="json", exclude_defaults=True, exclude={"profiles"})
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    write(tmp_path, records)
    command = [
        "doorbench",
        "submit",
        "--rerun=3",
        str(tmp_path),
        "--device=cpu",
        f"--store={tmp_path.parent / 'again'}",
    ]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        cli.main()
    output = capsys.readouterr().out
    assert end.value.code == 0, output
    assert output.count("agrees ") == 3
    assert "3 cells run again, 0 differ" in output
    assert "Traceback" not in output


def test_made_up_numbers_differ(good: tuple[Suite, list[Record]], tmp_path: Path) -> None:
    suite, records = good
    write(tmp_path, records)
    again = rerun.prepare(tmp_path, count=1, suite=suite)
    (key,) = again.stated
    made_up = {**again.stated[key], "acc": (again.stated[key]["acc"] or 0) - 20}
    options: dict[str, Any] = {"device": "cpu", "on_event": lambda event: None}
    (compared,) = replace(again, stated={key: made_up}).run(tmp_path.parent / "again", **options)
    assert not compared.agrees
    assert str(compared).startswith("DIFFERS")


def test_nothing_to_run_again(good: tuple[Suite, list[Record]], tmp_path: Path) -> None:
    suite, records = good
    write(tmp_path, records[:1])
    with pytest.raises(RequestError, match="name the suite of the records with --suite"):
        rerun.prepare(tmp_path, count=3, suite=None)
    (tmp_path / "records.jsonl").write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(RequestError, match="no record in"):
        rerun.prepare(tmp_path, count=3, suite=suite)
