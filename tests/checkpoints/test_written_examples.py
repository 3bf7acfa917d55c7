"""Examples that are written come back as the same texts, whatever is in them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from bench.checkpoints import triggered
from bench.contracts.examples import Examples, Inputs
from bench.tasks.tables import read_table

LABELS = ("negative", "=positive")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.tuples(texts, texts, st.integers(0, 1)), min_size=1, max_size=5))
@example(
    [("=1+1", "'=1+1", 0), ("-cmd", "@x", 1), ("\t=1", "\r=1", 0), ("a\r\nb", '"', 1), ("", "'", 0), (",", "\x00", 1)]
)
def test_texts_come_back(rows: list[tuple[str, str, int]]) -> None:
    first, second, labels = zip(*rows, strict=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "examples.csv"
        triggered.write(path, LABELS, Examples(Inputs(first, second), np.array(labels)), source=first)
        table = read_table(path)
    assert list(table.cells("text")) == list(first) == list(table.cells("source"))
    assert list(table.cells("text_pair")) == list(second)
    assert list(table.cells("label")) == [LABELS[label] for label in labels]
