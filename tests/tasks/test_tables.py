"""One reader for every place where users hand texts over: a cell means the same in every format and place."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attacks.shared.paraphrases import read_paraphrases
from attacks.shared.synonyms import Table
from bench.checkpoints import clean, recommend, triggered
from bench.errors import RequestError
from bench.tasks.local import Local
from bench.tasks.tables import SUFFIXES, read_table

Columns = dict[str, Sequence[Any]]
GOOD: Columns = {"text": ["a good film", "a bad film"] * 4, "label": [1, 0] * 4}


def write(path: Path, columns: Columns) -> Path:
    """Write a table as its suffix says; None stays away from formats that have no null."""
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.table({name: pa.array(cells) for name, cells in columns.items()}), path)
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case suffix:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(columns), delimiter="," if suffix == ".csv" else "\t")
                writer.writeheader()
                writer.writerows(rows)
    return path


def apart(split: str) -> dict[str, list[Any]]:
    """Return good columns with texts of their own."""
    return {**GOOD, "text": [f"{split} {text}" for text in GOOD["text"]]}


def task(path: Path) -> tuple[Any, ...]:
    """Read a file as the training split of a task on local files."""
    folder = path.parent / f"task-{path.name}"
    folder.mkdir(exist_ok=True)
    (folder / f"train{path.suffix}").write_bytes(path.read_bytes())
    for split in ("validation", "test"):
        columns = apart(split)
        pairs = {"text_pair": columns["text"]} if b"text_pair" in path.read_bytes() else {}
        write(folder / f"{split}.csv", columns | pairs)
    read = Local(folder=str(folder)).load().train
    return read.inputs.texts, read.labels.tolist()


def examples(path: Path) -> tuple[Any, ...]:
    read = clean.read(path, ["neg", "pos"])
    return sorted(read.tuning.inputs.texts), sorted(read.tuning.labels.tolist())


def attacked(path: Path) -> Any:
    return triggered.read(path, ["neg", "pos", "target"], target="target").examples.inputs


READERS: dict[str, Callable[[Path], Any]] = {
    "task": task,
    "clean": examples,
    "texts": clean.texts,
    "triggered": attacked,
}


@pytest.mark.parametrize("reader", READERS)
def test_the_same_content_is_the_same_in_every_format(tmp_path: Path, reader: str) -> None:
    texts = ["plain", "comma, comma", 'a "quoted" word', '"all quoted"', "it's", " spaces ", "0", "ÄÖ 火 😀"]
    tables = [READERS[reader](write(tmp_path / f"x{suffix}", GOOD | {"text": texts})) for suffix in SUFFIXES]
    assert all(one == tables[0] for one in tables)


WRONG: dict[str, tuple[Columns, tuple[str, ...]]] = {
    "a null text": (GOOD | {"text": ["a", None] * 4}, (".parquet", ".jsonl")),
    "a number as text": (GOOD | {"text": ["a", "b", 3, 4, 5, 6, 7, 8]}, (".jsonl",)),
    "numbers as text": (GOOD | {"text": list(range(8))}, (".parquet", ".jsonl")),
    "a list as text": (GOOD | {"text": [["a"]] * 8}, (".parquet", ".jsonl")),
    "bytes as text": (GOOD | {"text": [b"a"] * 8}, (".parquet",)),
    "an empty text": (GOOD | {"text": ["a", ""] * 4}, SUFFIXES),
    "a blank text": (GOOD | {"text": ["a", " \u3000"] * 4}, SUFFIXES),
    "no column text": ({"sentence": ["a"] * 8, "label": [0, 1] * 4}, SUFFIXES),
    "half a surrogate": (GOOD | {"text": ["a", "\ud800"] * 4}, (".jsonl",)),
    "a null second text": (GOOD | {"text_pair": ["a", None] * 4}, (".parquet", ".jsonl")),
    "no rows": ({"text": [], "label": []}, SUFFIXES),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_text_is_refused_everywhere(tmp_path: Path, reader: str, wrong: str) -> None:
    columns, suffixes = WRONG[wrong]
    for suffix in suffixes:
        path = write(tmp_path / f"x{suffix}", columns)
        with pytest.raises(RequestError) as error:
            READERS[reader](path)
        message = str(error.value)
        assert suffix in message and "\n" not in message
        if wrong not in ("no rows", "no column text"):
            assert "row" in message and "column" in message


@pytest.mark.parametrize("reader", ["task", "clean", "triggered"])
@pytest.mark.parametrize("label", [None, 1.5, True, "", "maybe", -1, 9, "1.0", "١"])
def test_what_is_no_label_is_refused_everywhere(tmp_path: Path, reader: str, label: Any) -> None:
    for suffix in SUFFIXES:
        cells = [label] * 8 if suffix == ".parquet" else [0] * 7 + ["None" if label is None else label]
        path = write(tmp_path / f"x{suffix}", GOOD | {"label": cells})
        if reader == "task":
            (tmp_path / f"task-x{suffix}").mkdir()
            (tmp_path / f"task-x{suffix}" / "labels.json").write_text('["neg", "pos"]')
        with pytest.raises(RequestError, match=r"row \d, column 'label'"):
            READERS[reader](path)


TWICE = {
    ".csv": b"text,label,label\na film,0,1\n",
    ".tsv": b"text\tlabel\tlabel\na film\t0\t1\n",
    ".jsonl": b'{"text": "a film", "label": 0, "label": 1}\n',
    ".parquet": b"",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_name_twice_is_refused(tmp_path: Path, reader: str, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(TWICE[suffix])
    if suffix == ".parquet":
        cells = [pa.array(["a film"]), pa.array([0]), pa.array([1])]
        pq.write_table(pa.Table.from_arrays(cells, names=["text", "label", "label"]), path)
    with pytest.raises(RequestError, match="'label' appears twice"):
        READERS[reader](path)


@pytest.mark.parametrize("odd", ["train", "validation", "test"])
def test_columns_that_differ_between_splits_are_refused(tmp_path: Path, odd: str) -> None:
    for pairs in (True, False):
        for split in ("train", "validation", "test"):
            write(tmp_path / f"{split}.csv", GOOD | ({"text_pair": ["x"] * 8} if (split == odd) == pairs else {}))
        with pytest.raises(RequestError, match="pairs need both"):
            Local(folder=str(tmp_path)).load()


def test_pairs_are_not_judged_with_single_texts(tmp_path: Path) -> None:
    single, pair = write(tmp_path / "s.csv", GOOD), write(tmp_path / "p.csv", GOOD | {"text_pair": ["x"] * 8})
    assert clean.texts(single).pairs is None and clean.texts(pair).pairs == ("x",) * 8


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("reader", READERS)
def test_a_long_text_is_read(tmp_path: Path, reader: str, suffix: str) -> None:
    path = write(tmp_path / f"x{suffix}", GOOD | {"text": ["word " * 60_000 + "end"] * 8})
    assert "word word" in str(READERS[reader](path))
    assert csv.field_size_limit() == 131_072, "what others read with is as before"


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        (['" good film\t1', "nice\t0", 'long "\t1', "bad\t0"], ['" good film', "nice", 'long "', "bad"]),
        (['"good" film\t1', "bad film\t0"], ['"good" film', "bad film"]),
        (['"a ""good"" film"\t1', "bad film\t0"], ['a "good" film', "bad film"]),
        (['"two\nlines"\t1', '"a\ttab"\t0'], ["two\nlines", "a\ttab"]),
        (["it's\t1", "'quoted'\t0"], ["it's", "'quoted'"]),
    ],
)
def test_quotes_in_tsv(tmp_path: Path, rows: list[str], texts: list[str]) -> None:
    path = tmp_path / "x.tsv"
    for end in ("\n", "\r\n"):
        path.write_bytes(end.join(["text\tlabel", *rows, ""]).encode())
        assert list(read_table(path).cells("text")) == texts
        assert list(read_table(path).cells("label")) == ["1", "0", "1", "0"][: len(rows)]


ENCODED: dict[str, Callable[[Any], Any]] = {
    "string_view": lambda cells: cells.cast(pa.string_view()),
    "large_string": lambda cells: cells.cast(pa.large_string()),
    "dictionary": lambda cells: cells.dictionary_encode(),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("encoding", ENCODED)
def test_every_way_in_which_arrow_writes_text(tmp_path: Path, reader: str, encoding: str) -> None:
    cells = ENCODED[encoding](pa.array(GOOD["text"]))
    pq.write_table(pa.table({"text": cells, "label": GOOD["label"]}), tmp_path / "x.parquet")
    plain = READERS[reader](write(tmp_path / "y.parquet", GOOD))
    assert READERS[reader](tmp_path / "x.parquet") == plain


STARS = ("1", "2", "3", "4", "5")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("names", "cells", "labels"),
    [
        (STARS, range(5), [0, 1, 2, 3, 4]),
        (STARS, STARS, [0, 1, 2, 3, 4]),
        (STARS, [1, 2, 3, 4], None),
        (STARS, [0, 5, 1], None),
        (("0", "1"), [0, 1], [0, 1]),
        (("1", "0"), [0, 1], None),
        (("neg", "1"), [0, 1], [0, 1]),
        (("neg", "pos"), ["neg", " pos ", "0", "1"], [0, 1, 0, 1]),
        (("neg", "pos"), ["NEG", "POS"], None),
        (("neg", "neg"), ["neg", "0"], None),
    ],
)
def test_a_label_is_a_number_or_a_name_and_never_a_guess(
    tmp_path: Path, suffix: str, names: Sequence[str], cells: Sequence[Any], labels: list[int] | None
) -> None:
    if suffix == ".parquet" and len({type(cell) for cell in cells}) > 1:
        cells = [str(cell) for cell in cells]
    path = write(tmp_path / f"x{suffix}", {"text": ["a film"] * 4 * len(cells), "label": list(cells) * 4})
    if labels is None:
        with pytest.raises(RequestError, match=r"row \d, column 'label'") as error:
            clean.read(path, names)
        assert names[0] in str(error.value)
        return
    read = clean.read(path, names)
    assert sorted(np.concatenate([read.tuning.labels, read.selection.labels])) == sorted(labels * 4)


@pytest.mark.parametrize("original", [None, "", 5])
def test_a_text_without_its_trigger_is_a_text(tmp_path: Path, original: Any) -> None:
    path = write(tmp_path / "x.jsonl", GOOD | {"original": ["a film"] * 7 + [original]})
    with pytest.raises(RequestError, match="row 8, column 'original'"):
        attacked(path)


def test_a_target_is_a_number_or_a_name_and_never_a_guess(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", GOOD | {"label": [0] * 8})
    for labels, target, number in ((["neg", "pos"], "pos", 1), (["neg", "pos"], "1", 1), (["0", "1"], "1", 1)):
        assert set(triggered.read(path, labels, target=target).target) == {number}
    for labels, target in ((STARS, "1"), (["neg", "pos"], "2"), (["neg", "pos"], "POS"), (["a", "a"], "a")):
        with pytest.raises(RequestError, match="target"):
            triggered.read(path, list(labels), target=target)


def test_a_mark_before_json_and_what_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    readers: dict[str, Callable[[], Any]] = {
        "labels": lambda: Local(folder=str(tmp_path)).load().facts.labels,
        "synonyms": lambda: Table(path, 2),
        "board": lambda: recommend.read_board(path),
    }
    for split in ("train", "validation", "test"):
        write(tmp_path / f"{split}.csv", apart(split))
    path.write_bytes(b'\xef\xbb\xbf["bad", "good"]')
    assert readers["labels"]() == ("bad", "good")
    for content in (b"", b"\xff", b"[" * 100_000, b"9" * 5000, b'{"a"', b"[1]", b"null", b'["\\ud800", "b"]', b"[[]]"):
        path.write_bytes(content)
        for read in readers.values():
            with pytest.raises(RequestError) as error:
                read()
            assert "labels.json" in str(error.value)


PIECES = st.sampled_from(
    [b"text", b"label", b",", b"\t", b"\n", b"\r", b'"', b"'", b"{", b"}", b"[", b":", b"0", b"1", b"null", b"NaN",
     b"\0", b"\xff", b"\xef\xbb\xbf", b"PAR1", b"paraphrase", b'"text"', b'"label"', b"\\ud800", b"1e999", b" "]
)  # fmt: skip
CONTENT = st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=40).map(b"".join))
EVERY = {**READERS, "paraphrases": read_paraphrases, "synonyms": lambda path: Table(path, 2)}
EVERY["board"] = recommend.read_board


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(content=CONTENT, suffix=st.sampled_from([*SUFFIXES, ".CSV", ".txt", ""]), reader=st.sampled_from([*EVERY]))
def test_any_content_is_read_or_refused_in_one_line(tmp_path: Path, content: bytes, suffix: str, reader: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    try:
        EVERY[reader](path)
    except RequestError as error:
        assert str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(at=st.integers(0, 2000), byte=st.integers(0, 255), cut=st.integers(0, 2000), reader=st.sampled_from([*READERS]))
def test_a_damaged_parquet_file_is_read_or_refused(tmp_path: Path, at: int, byte: int, cut: int, reader: str) -> None:
    path = write(tmp_path / "x.parquet", GOOD)
    raw = bytearray(path.read_bytes())
    raw[at % len(raw)] = byte
    path.write_bytes(bytes(raw if cut % 2 else raw[: cut % len(raw)]))
    try:
        READERS[reader](path)
    except RequestError as error:
        assert str(error)


TYPES: dict[str, Any] = {
    "dates": pa.array([1] * 8, pa.date64()),
    "nanoseconds": pa.array([1] * 8, pa.timestamp("ns")),
    "durations": pa.array([1] * 8, pa.duration("ns")),
    "decimals": pa.array([1] * 8, pa.decimal128(5, 2)),
    "structs": pa.array([{"a": 1}] * 8),
    "maps": pa.array([[("a", 1)]] * 8, pa.map_(pa.string(), pa.int64())),
    "nothing": pa.nulls(8),
    "truths": pa.array([True] * 8),
    "floats": pa.array([1.0] * 8),
    "unsigned": pa.array([2**64 - 1] * 8, pa.uint64()),
    "fixed bytes": pa.array([b"ab"] * 8, pa.binary(2)),
    "views of bytes": pa.array([b"ab"] * 8, pa.binary_view()),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", TYPES)
def test_columns_of_other_types_are_refused(tmp_path: Path, reader: str, kind: str) -> None:
    for column in ("text", "label"):
        columns = {"text": pa.array(GOOD["text"]), "label": pa.array(GOOD["label"]), column: TYPES[kind]}
        pq.write_table(pa.table(columns), tmp_path / "x.parquet")
        if (reader, column) == ("texts", "label"):
            assert len(clean.texts(tmp_path / "x.parquet")) == 8, "labels are not read"
            continue
        with pytest.raises(RequestError, match=column):
            READERS[reader](tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "text;label\na, b;1\n", "'text;label' is one column; fields of a .csv have commas between them"),
        ("x.csv", "sep=;\ntext;label\na;1\n", "'sep=;' is one column"),
        ("x.csv", "text\tlabel\na\t1\n", "have commas between them, not tabs"),
        ("x.tsv", "text,label\na,1\n", "have tabs between them, not commas"),
        ("x.tsv", "text;label\na;1\n", "have tabs between them, not semicolons"),
    ],
)
def test_another_delimiter_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    for read in (clean.texts, lambda path: clean.read(path, ("neg", "pos"))):
        with pytest.raises(RequestError) as error:
            read(tmp_path / name)
        assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_another_encoding_is_named(tmp_path: Path, name: str, encoding: str) -> None:
    text = "\ufeff" * (encoding != "utf-16") + "text,label\na,1\n"
    (tmp_path / name).write_bytes(text.encode(encoding))
    with pytest.raises(RequestError, match="is UTF-16, as its first two bytes say; save it as UTF-8"):
        clean.texts(tmp_path / name)


def test_a_missing_label_comes_with_the_columns(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,Label\na,1\n", encoding="utf-8")
    with pytest.raises(RequestError, match="the columns are: 'text', 'Label'"):
        clean.read(tmp_path / "x.csv", ("neg", "pos"))
