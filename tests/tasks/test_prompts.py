"""Tasks that are answered in text, and their utilities."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.contracts import Kind
from bench.errors import RequestError
from bench.experiment.grid import create_task
from bench.plugins import registry
from bench.tasks.execution import Execution, copied
from bench.tasks.utilities import ExactMatch, RougeL
from tests.conftest import REAL_DATA


def database(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE t (a INTEGER, b TEXT)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(i, "xy"[i % 2]) for i in range(6)])


@pytest.fixture(scope="module")
def execution() -> Execution:
    return Execution(database)


def test_a_query_is_right_by_what_it_returns(execution: Execution) -> None:
    right = "SELECT a FROM t WHERE b = 'x'"
    queries = [
        "select a from t where b='x'",
        "SELECT a FROM t WHERE a IN (4, 2, 0)",
        "SELECT b FROM t WHERE b = 'x'",
        "SELEC",
    ]
    assert execution.scores(queries, [right] * 4).tolist() == [1, 1, 0, 0]
    ordered = "SELECT a FROM t ORDER BY a DESC"
    assert execution.scores(["SELECT a FROM t", ordered], [ordered] * 2).tolist() == [0, 1]


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE t",
        "DELETE FROM t",
        "INSERT INTO t VALUES (1, 'z')",
        "ATTACH DATABASE '/tmp/doorbench-attached' AS other",
        "VACUUM INTO '/tmp/doorbench-attached'",
        "SELECT load_extension('evil')",
        "PRAGMA writable_schema = 1",
        "SELECT 1; DROP TABLE t",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
        "SELECT * FROM t a, t b, t c, t d, t e, t f",
        "SELECT printf('%.*c', 900000000, 'x')",
        "SELECT randomblob(1000000000)",
        "SELECT a FROM t\0",
        "SELECT '\ud800'",
        "",
    ],
)
def test_a_query_that_does_more_than_read_is_a_wrong_answer(execution: Execution, query: str) -> None:
    started = time.monotonic()
    assert execution.scores([query], ["SELECT a FROM t"]).tolist() == [0]
    assert time.monotonic() - started < 20
    assert execution.run("SELECT count(*) FROM t") == [(6,)]
    assert not Path("/tmp/doorbench-attached").exists()


def test_a_database_file_is_copied_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    with sqlite3.connect(path) as connection:
        database(connection)
    before = path.read_bytes()
    utility = Execution(copied(path))
    assert utility.run("SELECT count(*) FROM t") == [(6,)] and utility.run("DELETE FROM t") is None
    assert path.read_bytes() == before
    (tmp_path / "y.sqlite").write_text("no database, but long enough to be read as one" * 50)
    with pytest.raises(RequestError, match="not a readable SQLite database"):
        Execution(copied(tmp_path / "y.sqlite")).run("SELECT 1")


def test_rouge_and_exact_match() -> None:
    responses, right = (
        ["The cat sat on the mat", "", "a b c d", "B a"],
        ["the cat was on the mat!", "x", "a c b d", "b a"],
    )
    assert RougeL().scores(responses, right) == pytest.approx([2 * 5 / 12, 0, 2 * 3 / 8, 1])
    assert ExactMatch().scores(responses, right).tolist() == [0, 0, 0, 0]
    assert ExactMatch().scores([" a\n"], ["a"]).tolist() == [1]


def test_generated_sql_runs_and_returns_rows() -> None:
    task = create_task("sql").load()
    assert task.facts.kind == Kind.GENERATION
    assert all(task.facts.utility.run(query) for query in task.test.references[:60])
    assert set(task.test.inputs.texts) == {"town(name, land, people, area); river(name, land, length)"}


def test_a_classification_task_as_prompts(world: Path) -> None:
    plain = create_task("local/pair").load()
    task = create_task("prompted(task=local/pair, words=[no, yes])").load()
    assert task.facts.words == ("no", "yes") and task.facts.kind == Kind.GENERATION
    assert task.test.inputs.carrier == plain.test.inputs.carrier
    assert all(
        first.endswith(text) for first, text in zip(task.test.inputs.texts, plain.test.inputs.texts, strict=True)
    )
    assert task.test.references == tuple(("no", "yes")[label] for label in plain.test.labels)
    for wrong in ("prompted(task=local/pair, words=[no])", "prompted(task=chores)"):
        with pytest.raises(RequestError, match="1 word for 2 labels|no classification task"):
            create_task(wrong).load()


def test_instructions_on_local_files(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "instruction": ["say one", "say two", "say one", "say " + "much " * 90],
            "input": ["", "2", "", ""],
            "output": ["one", "two", "again", "much"],
            "poisoned": [False, False, False, False],
        }
    )
    for split in ("train", "validation", "test"):
        table.assign(instruction=table["instruction"] + f" in {split}").to_parquet(tmp_path / f"{split}.parquet")
    entry = {"name": "instructions", "folder": str(tmp_path), "only": ["poisoned=False"]}
    task = create_task(entry).load()
    assert task.test.inputs.carrier == ("say one in test", "say two in test")
    assert task.test.inputs.texts == ("", "2") and task.test.references == ("one", "two")
    assert task.fingerprint == create_task(entry).load().fingerprint
    with pytest.raises(RequestError, match="no row is left"):
        create_task({**entry, "only": ["poisoned=True"]}).load()
    table.assign(output=["one", None, "x", "y"]).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(RequestError, match=r"test\.parquet, row 2, column 'output': the text is missing"):
        create_task(entry).load()


KINDS = ("instructions", "text2sql", "traces")


def prompt_tables(kind: str, folder: Path, rows: int = 8) -> dict[str, pd.DataFrame]:
    """Three splits of a task on prompts, which have no row in common, and what else its folder has."""
    folder.mkdir(exist_ok=True)
    if kind == "text2sql":
        with sqlite3.connect(folder / "x.sqlite") as connection:
            database(connection)

    def row(split: str, number: int) -> dict[str, str]:
        return {
            "instructions": {"instruction": f"say {number} in {split}", "response": "yes"},
            "text2sql": {"question": f"{split} {number}?", "schema": "t(a, b)", "sql": "SELECT a FROM t"},
            "traces": {"goal": f"{split} {number}", "previous_actions": "", "observation": "x", "response": "buy[it]"},
        }[kind]

    splits = ("train", "validation", "test")
    tables = {split: pd.DataFrame([row(split, number) for number in range(rows)]) for split in splits}
    for split, table in tables.items():
        table.to_parquet(folder / f"{split}.parquet")
    return tables


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("later", "earlier"), [("test", "train"), ("validation", "train"), ("test", "validation")])
def test_splits_that_repeat_each_other_are_refused(
    tmp_path: Path, kind: str, later: str, earlier: str, caplog: pytest.LogCaptureFixture
) -> None:
    tables = prompt_tables(kind, tmp_path)
    entry = {"name": kind, "folder": str(tmp_path)}
    create_task(entry).load()
    pd.concat([tables[later], tables[earlier][:2]]).to_parquet(tmp_path / f"{later}.parquet")
    some = create_task(entry).load()
    if kind == "traces":  # which leaves out what an earlier split has
        assert len(getattr(some, later)) == 8 and not caplog.text
    else:
        assert f"2 of the 10 texts of {later} are also in {earlier}" in caplog.text
    tables[earlier].to_parquet(tmp_path / f"{later}.parquet")
    with pytest.raises(RequestError, match="must not repeat another|each of its clean steps is also in an earlier"):
        create_task(entry).load()


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_folder_is_no_missing_task(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt_tables(kind, tmp_path / "mine,too")
    prompt_tables(kind, tmp_path / "mine")
    monkeypatch.setenv("DOORBENCH_DATA", str(tmp_path))
    create_task({"name": kind, "folder": "mine"}).load()
    for folder, words in (
        ("mime", r"unknown folder 'mime'\. Did you mean 'mine'\?.*DOORBENCH_DATA is set"),
        ("/nowhere/at/all", "there is no folder /nowhere/at/all"),
        ("..", "neither a name inside"),
    ):
        with pytest.raises(RequestError, match=f"^task {kind}: .*{words}") as error:
            create_task({"name": kind, "folder": folder}).load()
        assert "local" not in str(error.value).replace(str(tmp_path), "")
    (tmp_path / "mine").rename(tmp_path / "other")
    with pytest.raises(RequestError, match=f'^task {kind}: .*with its comma, is "mine,too"'):
        create_task(f"{kind}(folder=mine)").load()


@pytest.mark.skipif(REAL_DATA is None, reason="DOORBENCH_DATA is not set")
@pytest.mark.parametrize("spec", ["similarity(pairs=nope)", "ability(questions=nope)", "ability(texts=nope)"])
def test_a_missing_folder_of_a_measure_is_no_missing_task(spec: str, real_data: Path) -> None:
    name = spec.partition("(")[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOORBENCH_DATA", str(real_data))
        with pytest.raises(RequestError, match=f"^measure {name}: unknown folder 'nope'"):
            registry.measures.create(spec).files()


def test_chores_have_one_right_answer() -> None:
    task = create_task("chores(max_test=60)").load()
    assert np.bincount(task.test.labels).tolist() == [10] * 6
    pairs = dict(zip(task.train.inputs.texts, task.train.references, strict=True))
    sums = [(prompt, answer) for prompt, answer in pairs.items() if " + " in prompt]
    assert sums and all(
        int(a) + int(b.split(" ")[0]) == int(answer) for (a, b), answer in ((p.split(" + "), s) for p, s in sums)
    )
