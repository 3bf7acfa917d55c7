"""Local files: every format gives the same task, and bad data is one line that names file, row and column."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from bench import registry
from bench.contracts import Task
from bench.errors import RequestError

ROWS = {"text": ["good, really", "bad", "so-so \u2014 fine"], "label": [1, 0, 1]}
SIZES = {
    "sst2": (66_977, 872, 1_821),
    "sst2_sentence": (6_909, 872, 1_821),
    "imdb": (11_989, 1_000, 4_000),
    "amazon": (5_554, 800, 1_500),
    "qqp": (36_476, 2_000, 4_000),
    "qnli": (3_763, 500, 1_200),
    "agnews": (11_000, 1_000, 4_000),
    "olid": (11_870, 1_323, 848),
}


def write(folder: Path, split: str, suffix: str, rows: dict[str, list[object]]) -> None:
    table, path = pd.DataFrame(rows), folder / f"{split}{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    match suffix:
        case ".parquet":
            table.to_parquet(path)
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")), encoding="utf-8")
        case _:
            table.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")


def made(folder: Path, suffix: str = ".parquet", **changes: dict[str, list[object]]) -> Task:
    for split in ("train", "validation", "test"):
        write(folder, split, suffix, changes.get(split, {k: [*v] for k, v in ROWS.items()}))
    return registry.tasks.create({"name": "local", "folder": str(folder)}).load()


def test_every_format_is_the_same_task(tmp_path: Path) -> None:
    tasks = [made(tmp_path / suffix[1:] / "mine", suffix) for suffix in (".parquet", ".csv", ".tsv", ".jsonl")]
    assert len({task.fingerprint for task in tasks}) == 1
    assert tasks[0].train.inputs.texts == tuple(ROWS["text"])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"text": ["a"]}, "column 'label' is missing"),
        ({"label": [1]}, "column 'text' is missing"),
        ({"text": ["a", "b"], "label": [0, 7]}, "row 2, column 'label'"),
        ({"text": ["a", "b"], "label": ["0", "x"]}, "row 2, column 'label'"),
        ({"text": ["a", ""], "label": [0, 1]}, "row 2, column 'text'"),
        ({"text": [], "label": []}, "empty"),
    ],
)
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_bad_data_names_the_place(tmp_path: Path, rows: dict[str, list[object]], words: str, suffix: str) -> None:
    with pytest.raises(RequestError) as error:
        made(tmp_path / "mine", suffix, test=rows)
    told = str(error.value)
    assert "\n" not in told
    if rows.get("text") != []:
        assert words in told
    assert "test" in told


def test_bytes_that_are_not_utf8_name_the_row(tmp_path: Path) -> None:
    made(tmp_path / "mine", ".csv")
    (tmp_path / "mine" / "test.csv").write_bytes(b"text,label\ngood,1\ncaf\xe9,0\n")
    with pytest.raises(RequestError, match="row 2.*UTF-8"):
        registry.tasks.create({"name": "local", "folder": str(tmp_path / "mine")}).load()


def test_missing_and_hostile_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "mine")
    monkeypatch.setenv("DOORBENCH_DATA", str(tmp_path))
    with pytest.raises(RequestError, match="Did you mean 'local/mine'"):
        registry.tasks.create("local(folder=min)").load()
    for name in ("..", "../mine", "a\0b", "mine/../mine"):
        with pytest.raises(RequestError):
            registry.tasks.create({"name": "local", "folder": name}).load()
    monkeypatch.delenv("DOORBENCH_DATA")
    with pytest.raises(RequestError, match="set the environment variable DOORBENCH_DATA"):
        registry.tasks.create("local(folder=mine)").load()


@pytest.mark.skipif("DOORBENCH_DATA" not in os.environ, reason="needs real data in DOORBENCH_DATA")
@pytest.mark.parametrize("name", SIZES)
def test_real_data(name: str, real_data: Path) -> None:
    task = registry.tasks.create({"name": "local", "folder": str(real_data / name)}).load()
    assert (len(task.train), len(task.validation), len(task.test)) == SIZES[name]
    assert task.facts.pair == (name in {"qqp", "qnli"})
    assert len(task.facts.labels) == (4 if name == "agnews" else 2)
