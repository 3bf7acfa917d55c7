"""The one place where labels and texts are checked and splits are cut to size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contracts import Task, TaskFacts
from bench.errors import RequestError
from bench.tasks.assemble import Columns, assemble, count_labels
from bench.tasks.tables import TextTable

FACTS = TaskFacts("toy", ("no", "yes", "maybe"), False, 64)
PAIR = TaskFacts("toy", ("no", "yes", "maybe"), True, 64)


def table(
    labels: list[object], split: str = "train", texts: list[object] | None = None, **more: list[object]
) -> TextTable:
    filled = texts if texts is not None else [f"{split} text {i}" for i in range(len(labels))]
    return TextTable(f"{split}.csv", {"text": filled, "label": labels, **more})


def build(train: TextTable, facts: TaskFacts = FACTS, **options: object) -> Task:
    tables = {"train": train, "validation": table([0, 1], "validation"), "test": table([0, 1, 2, 0], "test")}
    return assemble(facts=facts, columns=Columns(), tables=tables, **options)  # type: ignore[arg-type]


@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=80), size=st.integers(1, 90))
@settings(max_examples=60)
def test_a_cut_is_exact_stratified_nested_and_in_order(labels: list[int], size: int) -> None:
    full, cut, smaller = (build(table(list(labels)), max_train=n) for n in (None, size, max(1, size // 2)))
    assert len(cut.train) == min(size, len(labels))
    assert set(smaller.train.inputs.texts) <= set(cut.train.inputs.texts) <= set(full.train.inputs.texts)
    places = [full.train.inputs.texts.index(text) for text in cut.train.inputs.texts]
    assert places == sorted(places)
    assert [labels[i] for i in places] == cut.train.labels.tolist()
    share = len(cut.train) / len(labels)
    for label in range(3):
        assert abs((cut.train.labels == label).sum() - share * labels.count(label)) <= 2
    assert cut.fingerprint == build(table(list(labels)), max_train=size).fingerprint


def test_test_split_is_cut_and_validation_is_not() -> None:
    task = build(table([0, 1, 2]), max_test=2)
    assert (len(task.train), len(task.validation), len(task.test)) == (3, 2, 2)


def test_fingerprint_knows_every_cell_and_the_facts() -> None:
    base = build(table([0, 1, 2]))
    assert base.fingerprint == build(table([0, 1, 2])).fingerprint
    others = [
        build(table([0, 1, 1])),
        build(table([0, 1, 2], texts=["train text 0", "train text 1", "train text 2 "])),
        build(table([0, 1])),
        build(table([0, 1, 2]), dataclasses.replace(FACTS, max_length=32)),
        build(table([0, 1, 2]), dataclasses.replace(FACTS, labels=("a", "b", "c"))),
        build(table([0, 1, 2]), max_test=3),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            table([0, 3]),
            "train.csv, row 2, column 'label': the label 3 is out of range; valid: 0 (no), 1 (yes), 2 (maybe)",
        ),
        (table([0, -1]), "train.csv, row 2, column 'label': the label -1 is out of range"),
        (table([0, 10**30]), "row 2, column 'label': the label 1000000000000000000000000000000 is out of range"),
        (table([0, 1.0]), "row 2, column 'label': the label 1.0 is not an integer"),
        (table([0, True]), "row 2, column 'label': the label True is not an integer"),
        (table(["0", "one"]), "row 2, column 'label': the label 'one' is not an integer"),
        (table(["0", "²"]), "row 2, column 'label': the label '²' is not an integer"),
        (table([0, None]), "row 2, column 'label': the label is missing"),
        (table(["0", ""]), "row 2, column 'label': the label is missing"),
        (table([0, 1], texts=["a", None]), "row 2, column 'text': the text is missing"),
        (table([0, 1], texts=["a", " \t\n"]), "row 2, column 'text': the text is empty"),
        (table([0, 1], texts=["a", 7]), "row 2, column 'text': 7 is not text"),
        (table([0, 1], texts=["a", "caf\udce9"]), "row 2, column 'text': the text is not UTF-8"),
        (
            TextTable("x.csv", {"text": ["a"], "class": [0]}),
            "x.csv: column 'label' is missing; the columns are: 'text', 'class'",
        ),
        (table([]), "train.csv: the train split is empty"),
    ],
)
def test_bad_data_is_one_line_with_table_row_and_column(train: TextTable, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        build(train)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_may_be_spelt_as_text() -> None:
    assert build(table(["0", " 2 ", "+1"])).train.labels.tolist() == [0, 2, 1]


def test_pairs_need_both_segments() -> None:
    good = {"train": [0, 1], "validation": [1], "test": [0]}
    tables = {split: table(list(labels), split, text_pair=["x"] * len(labels)) for split, labels in good.items()}
    columns = Columns(text_pair="text_pair")
    assert assemble(facts=PAIR, columns=columns, tables=tables).train.inputs.pairs == ("x", "x")
    bad = tables | {"test": table([0], "test", text_pair=[""])}
    with pytest.raises(RequestError, match="test.csv, row 1, column 'text_pair': the text is empty"):
        assemble(facts=PAIR, columns=columns, tables=bad)


def carved(size: int, n: int = 90, **options: int) -> Task:
    tables = {"train": table([i % 3 for i in range(n)]), "test": table([0], "test")}
    return assemble(facts=FACTS, columns=Columns(), tables=tables, validation_size=size, **options)


def test_validation_can_be_a_part_of_train() -> None:
    task, cut = carved(30), carved(30, max_train=12)
    train, validation = set(task.train.inputs.texts), set(task.validation.inputs.texts)
    assert len(train) == 60 and len(validation) == 30 and not train & validation
    assert np.bincount(task.validation.labels).tolist() == [10, 10, 10]
    assert cut.validation.fingerprint() == task.validation.fingerprint()
    assert set(cut.train.inputs.texts) < train
    with pytest.raises(RequestError, match="90 training examples are not enough for validation_size=90"):
        carved(90)


def test_empty_texts_can_be_left_out() -> None:
    task = build(table([0, 1, 2, 0], texts=["a", "", "c", None]), drop_empty=True)
    assert task.train.inputs.texts == ("a", "c")
    assert task.train.labels.tolist() == [0, 2]


def test_labels_are_counted_from_zero_without_a_gap() -> None:
    how = "name them"
    assert count_labels(table([2, 0, 1]), "label", how_to_name=how) == ("0", "1", "2")
    with pytest.raises(RequestError, match="no example has label 0, but there is label 2; .*or name them"):
        count_labels(table([1, 2]), "label", how_to_name=how)
    with pytest.raises(RequestError, match="a task needs two labels"):
        count_labels(table([0, 0]), "label", how_to_name=how)
