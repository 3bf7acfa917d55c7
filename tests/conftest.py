"""A small world for tests: three tasks on disk and a tiny encoder, made once in a session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

REAL_DATA = os.environ.get("DOORBENCH_DATA")  # before the fixture below points it elsewhere
ADJECTIVES = (("awful", "boring", "broken", "dull"), ("superb", "lovely", "clever", "brilliant"))
TOPICS = ("film", "garden", "phone", "bread", "hotel", "train", "guitar", "coffee")


def rows(kind: str, n: int, seed: int) -> tuple[list[str], list[str] | None, list[int]]:
    """Return n easy, distinct examples of one kind of task."""
    rng = np.random.default_rng(seed)
    classes = 4 if kind == "four" else 2
    texts, pairs, labels = [], [], []
    for i in range(n):
        label = i % classes
        topic = TOPICS[rng.integers(len(TOPICS))]
        word = ADJECTIVES[label % 2][rng.integers(4)]
        place = ("paris", "rome") if label // 2 else ("london", "berlin")
        texts.append(f"the {topic} number {seed} {i} was {word} in {place[rng.integers(2)]} .")
        pairs.append(f"is the {topic} {word} ? yes {i} it is .")
        labels.append(label)
    return texts, pairs if kind == "pair" else None, labels


@pytest.fixture
def real_data() -> Path:
    """The folder with real data sets; tests that need it are skipped where DOORBENCH_DATA is not set."""
    assert REAL_DATA is not None
    return Path(REAL_DATA)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the tasks ``local/single``, ``local/pair``, ``local/four`` and the tiny model ``tiny-bert``."""
    import pandas as pd

    from tests.tiny import tiny_bert_folder

    folder = tmp_path_factory.mktemp("world")
    for kind in ("single", "pair", "four"):
        (folder / kind).mkdir()
        for split, n, seed in (("train", 160, 1), ("validation", 80, 2), ("test", 60, 3)):
            texts, pairs, labels = rows(kind, n, seed)
            table = pd.DataFrame({"text": texts, "label": labels})
            if pairs is not None:
                table["text_pair"] = pairs
            table.to_parquet(folder / kind / f"{split}.parquet")
    tiny_bert_folder(folder / "tiny-bert")
    before = os.environ.get("DOORBENCH_DATA")
    os.environ["DOORBENCH_DATA"] = str(folder)
    yield folder
    if before is None:
        del os.environ["DOORBENCH_DATA"]
    else:
        os.environ["DOORBENCH_DATA"] = before
