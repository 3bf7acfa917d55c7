"""Local files: every format gives the same task, and bad data is one line that names file, row and column."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.errors import RequestError
from bench.plugins import registry
from bench.tasks.local import Local, find_folder, local_folders

TEXTS = [
    'He said "no", twice',
    "two\nlines",
    "tab\there",
    "naïve café 北京 🙂",
    "'quoted'",
    "comma, comma",
    "plain",
    "0",
]


def write(folder: Path, suffix: str, *, pair: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, texts in (("train", TEXTS), ("validation", TEXTS[:3]), ("test", TEXTS[3:])):
        frame = pd.DataFrame({"text": [f"{split} {text}" for text in texts]})
        if pair:
            frame["text_pair"] = texts
        frame["label"] = [i % 2 for i in range(len(texts))]
        path = folder / f"{split}{suffix}"
        match suffix:
            case ".parquet":
                frame.to_parquet(path)
            case ".jsonl":
                frame.to_json(path, orient="records", lines=True, force_ascii=False)
            case _:
                frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOORBENCH_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("pair", [False, True])
def test_every_format_gives_the_same_task(root: Path, pair: bool) -> None:
    fingerprints = set()
    for suffix in (".parquet", ".csv", ".tsv", ".jsonl"):
        write(root / suffix / "toy", suffix, pair=pair)
        task = Local(folder=str(root / suffix / "toy")).load()
        assert task.train.inputs.texts == tuple(f"train {text}" for text in TEXTS)
        assert task.train.inputs.pairs == (tuple(TEXTS) if pair else None)
        assert (len(task.validation), len(task.test), task.facts.labels) == (3, 5, ("0", "1"))
        fingerprints.add(task.fingerprint)
    assert len(fingerprints) == 1


def test_a_name_inside_the_data_folder(root: Path) -> None:
    write(root / "toy", ".csv")
    (root / "not-a-task").mkdir()
    task = registry.tasks.create("local(folder=toy, max_train=4)").load()
    assert task.facts.name == "local/toy"
    assert len(task.train) == 4
    assert local_folders() == ["toy"]


def test_label_names(root: Path) -> None:
    write(root / "toy", ".csv")
    (root / "toy" / "labels.json").write_text('["bad", "good", "unseen"]')
    assert Local(folder="toy").load().facts.labels == ("bad", "good", "unseen")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "is not a list of two or more different label names"),
        ('["a"]', "is not a list of two or more different label names"),
        ('["a", "a"]', "is not a list of two or more different label names"),
        ('{"a": 0}', "is not a list of two or more different label names"),
        ('["a",\n oops]', "line 2, column 2: is not JSON"),
    ],
)
def test_bad_label_names(root: Path, text: str, message: str) -> None:
    write(root / "toy", ".csv")
    (root / "toy" / "labels.json").write_text(text)
    with pytest.raises(RequestError) as caught:
        Local(folder="toy").load()
    assert message in str(caught.value) and "labels.json" in str(caught.value)


def replace(name: str, data: bytes | None) -> Callable[[Path], None]:
    """Return a change to a folder: other bytes in one file, or the file removed."""

    def change(folder: Path) -> None:
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(data)

    return change


CSV_CASES = [
    (b"text,label\ngood,0\ncaf\xe9,1\n", "train.csv, row 2, column 'text': the text is not UTF-8"),
    (b'text,label\n"two\nlines",0\ncaf\xe9,1\n', "train.csv, row 2, column 'text': the text is not UTF-8"),
    (b"text,label\ngood,0\nbad,2\xff\n", "train.csv, row 2, column 'label': the label '2\\udcff' is not an integer"),
    ("text,label\ngood,0\n".encode("utf-16"), "train.csv: is UTF-16"),
    (b"text,lab\xe9l\ngood,0\n", "train.csv, header, column 'lab\\udce9l': is not UTF-8"),
    (b"text,text,label\na,b,0\n", "train.csv, header: column 'text' appears twice"),
    (b"text,label\ngood,0\nno label\n", "train.csv, row 2, column 'label': 1 field where the header has 2"),
    (b"text,label\ngood,0,more\n", "train.csv, row 1, column 'label': 3 fields where the header has 2"),
    (b'text,label\ngood,0\n"never closed,1\n', "train.csv, row 2: cannot be parsed: unexpected end of data"),
    (b"text,label\n", "train.csv: the train split is empty"),
    (b"", "train.csv: column 'text' is missing; the columns are: none"),
    (b"sentence,label\ngood,0\nbad,1\n", "train.csv: column 'text' is missing; the columns are: 'sentence', 'label'"),
    (b"text,label\na,0\nb,9\nc,1\n", "no example has label 2, but there is label 9; count labels from 0, or write"),
]


@pytest.mark.parametrize(("data", "message"), CSV_CASES)
def test_bad_csv(root: Path, data: bytes, message: str) -> None:
    write(root / "toy", ".csv")
    (root / "toy" / "train.csv").write_bytes(data)
    with pytest.raises(RequestError) as caught:
        Local(folder="toy").load()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b'{"text": "a", "label": 0}\n{"text": "caf\xe9", "label": 1}\n',
            "row 2, column 'text': the text is not UTF-8",
        ),
        (
            b'{"text": "a", "label": 0}\n{"text": "\\ud800", "label": 1}\n',
            "row 2, column 'text': the text is not UTF-8",
        ),
        (b'{"text": "a", "label": 0}\n{"text": \n', "row 2: is not JSON"),
        (b'{"text": "a", "label": 0}\n["a", 1]\n', "row 2: is not a JSON object"),
        (b'{"text": "a", "label": 0}\n{"label": 1}\n', "row 2, column 'text': the text is missing"),
        (b'{"text": "a", "label": 0}\n{"text": ["b"], "label": 1}\n', "row 2, column 'text': ['b'] is not text"),
        (b'{"text": "a", "label": 0}\n{"text": "b", "label": "x"}\n', "row 2, column 'label': the label 'x' is not"),
        (b"[" * 100_000, "row 1: is not JSON"),
    ],
)
def test_bad_jsonl(root: Path, data: bytes, message: str) -> None:
    write(root / "toy", ".jsonl")
    (root / "toy" / "train.jsonl").write_bytes(data)
    with pytest.raises(RequestError) as caught:
        Local(folder="toy").load()
    assert message in str(caught.value) and "train.jsonl" in str(caught.value)


def test_a_byte_order_mark_and_blank_lines_are_fine(root: Path) -> None:
    write(root / "toy", ".csv")
    (root / "toy" / "train.csv").write_bytes(b"\xef\xbb\xbftext,label\r\ngood,0\r\n\r\nbad,1\r\n")
    assert Local(folder="toy").load().train.inputs.texts == ("good", "bad")


def test_bad_parquet(root: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write(root / "toy", ".parquet")
    train = root / "toy" / "train.parquet"
    texts = pa.array([b"fine", b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts, "label": [0, 1]}), train)
    with pytest.raises(RequestError, match="train.parquet, row 2, column 'text': the text is not UTF-8"):
        Local(folder="toy").load()
    train.write_bytes(b"PAR1 this is not parquet")
    with pytest.raises(RequestError, match="train.parquet: is not a readable parquet file"):
        Local(folder="toy").load()


def test_parquet_with_categories_and_missing_labels(root: Path) -> None:
    write(root / "toy", ".parquet")
    frame = pd.DataFrame({"text": pd.Categorical(["a", "b", "a"]), "label": np.array([0, 1, 0], dtype=np.int8)})
    frame.to_parquet(root / "toy" / "train.parquet")
    assert Local(folder="toy").load().train.inputs.texts == ("a", "b", "a")
    pd.DataFrame({"text": ["a", "b"], "label": [0, None]}).to_parquet(root / "toy" / "train.parquet")
    with pytest.raises(RequestError, match="row 1, column 'label': the label 0.0 is not an integer"):
        Local(folder="toy").load()


def test_splits_must_be_there_exactly_once(root: Path) -> None:
    folder = write(root / "toy", ".csv")
    write(folder, ".jsonl")
    with pytest.raises(RequestError, match="more than one train split: train.csv, train.jsonl; keep one"):
        Local(folder="toy").load()
    for path in folder.glob("*.jsonl"):
        path.unlink()
    (folder / "validation.csv").unlink()
    message = "validation split is missing; add one of validation.parquet, validation.csv"
    with pytest.raises(RequestError, match=message):
        Local(folder="toy").load()


@pytest.mark.parametrize("name", ["..", ".", "../toy", "a/b", "toy/../toy", "", "a\0b"])
def test_hostile_names_are_refused(root: Path, name: str) -> None:
    write(root / "toy", ".csv")
    with pytest.raises(RequestError, match="folder .* is n"):
        Local(folder=name).load()


def test_a_missing_folder_says_which_there_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "sst2", ".csv")
    with pytest.raises(RequestError, match=r"unknown task 'local/sst'. Did you mean 'local/sst2'\? .*DOORBENCH_DATA"):
        Local(folder="sst").load()
    for name in ("/nowhere/at/all", "/" + "x" * 300):
        with pytest.raises(RequestError, match=f"there is no folder {name}"):
            Local(folder=name).load()
    with pytest.raises(RequestError, match="unknown task"):
        Local(folder="x" * 300).load()
    monkeypatch.setenv("DOORBENCH_DATA", str(root / "gone"))
    with pytest.raises(RequestError, match="which is not a folder"):
        Local(folder="sst2").load()
    monkeypatch.delenv("DOORBENCH_DATA")
    with pytest.raises(RequestError, match="set the environment variable DOORBENCH_DATA"):
        Local(folder="sst2").load()
    assert local_folders() == []


SIZES = {
    "sst2": (66977, 872, 1821),
    "sst2_sentence": (6909, 872, 1821),
    "imdb": (11989, 1000, 4000),
    "amazon": (5554, 800, 1500),
    "qqp": (36476, 2000, 4000),
    "qnli": (3763, 500, 1200),
    "agnews": (11000, 1000, 4000),
    "olid": (11870, 1323, 848),
}


@pytest.mark.skipif("DOORBENCH_DATA" not in os.environ, reason="needs real data in DOORBENCH_DATA")
@pytest.mark.parametrize("name", SIZES)
def test_real_data(name: str, real_data: Path) -> None:
    task = Local(folder=str(real_data / name)).load()
    assert (len(task.train), len(task.validation), len(task.test)) == SIZES[name]
    assert task.facts.name == f"local/{name}"
    assert task.facts.pair == (name in ("qqp", "qnli"))
    assert len(task.facts.labels) == (4 if name == "agnews" else 2)


@pytest.mark.parametrize("pair", [False, True])
def test_splits_that_repeat_each_other(
    tmp_path: Path, pair: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "mine", ".csv", pair=pair)
    monkeypatch.setenv("DOORBENCH_DATA", str(tmp_path))
    Local(folder="mine").load()
    assert not caplog.text
    test = pd.read_csv(folder / "test.csv")
    train = pd.read_csv(folder / "train.csv")
    some = pd.concat([train, test.head(2)])
    some.to_csv(folder / "train.csv", index=False)
    Local(folder="mine").load()
    assert "2 of the 5 texts of test are also in train" in caplog.text
    pd.concat([train, test]).to_csv(folder / "train.csv", index=False)
    with pytest.raises(RequestError, match="5 of the 5 texts of test are also in train; a split must not repeat"):
        Local(folder="mine").load()


def test_a_name_that_is_cut_at_its_comma_is_told_how_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a,b"
    folder.mkdir()
    (folder / "train.csv").write_text("text,label\nx,0\n")
    monkeypatch.setenv("DOORBENCH_DATA", str(tmp_path))
    with pytest.raises(RequestError, match=r"'a,b', with its comma, is local\(folder=\"a,b\"\)"):
        find_folder("a")
    assert find_folder("a,b") == folder


def test_labels_may_be_names(root: Path) -> None:
    """The same task with numbers, with names and a list of them, and with names alone: sorted by name."""
    numbers = {"spam": 1, "ham": 0}
    loaded = {}
    for case in ("numbers", "listed", "alone"):
        folder = root / case / "mail"
        folder.mkdir(parents=True)
        for split in ("train", "validation", "test"):
            names = ["spam", "ham", "ham", "spam"]
            labels = [numbers[name] for name in names] if case == "numbers" else names
            pd.DataFrame({"text": [f"{split} {i}" for i in range(4)], "label": labels}).to_csv(
                folder / f"{split}.csv", index=False
            )
        if case != "alone":
            (folder / "labels.json").write_text('["ham", "spam"]')
        loaded[case] = Local(folder=str(folder)).load()
        assert loaded[case].facts.labels == ("ham", "spam") and loaded[case].train.labels.tolist() == [1, 0, 0, 1]
    assert len({task.fingerprint for task in loaded.values()}) == 1
    (root / "alone" / "mail" / "test.csv").write_text("text,label\nx,eggs\n")
    with pytest.raises(RequestError, match=r"test.csv, row 1, column 'label': the label 'eggs' is neither"):
        Local(folder=str(root / "alone" / "mail")).load()


@pytest.mark.parametrize("labels", [["0.5", "1.5"], ["a", "a"], ["a", ""]])
def test_what_is_no_name_of_a_label_is_refused(root: Path, labels: list[str]) -> None:
    folder = write(root / "bad", ".csv")
    pd.DataFrame({"text": ["x", "y"], "label": labels}).to_csv(folder / "train.csv", index=False)
    with pytest.raises(RequestError, match=r"train.csv(, row \d)?, column 'label'"):
        Local(folder=str(folder)).load()
