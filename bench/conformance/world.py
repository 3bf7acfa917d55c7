"""A small world: three tasks as folders and a tiny encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.conformance.tiny import tiny_bert_folder

KINDS = ("single", "pair", "four")
MODEL = "tiny-bert"
SPLITS = (("train", 160, 1), ("validation", 80, 2), ("test", 60, 3))  # name, size, seed
ADJECTIVES = (("awful", "boring", "broken", "dull"), ("superb", "lovely", "clever", "brilliant"))
TOPICS = ("film", "garden", "phone", "bread", "hotel", "train", "guitar", "coffee")


def rows(kind: str, n: int, seed: int) -> tuple[list[str], list[str] | None, list[int]]:
    """Return n easy, distinct examples of one kind of task: ``single``, ``pair`` or ``four`` (classes)."""
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


def build(folder: Path) -> Path:
    """Write the tasks and the model ``tiny-bert`` into a folder; return it."""
    import pandas as pd

    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for split, n, seed in SPLITS:
            texts, pairs, labels = rows(kind, n, seed)
            table = pd.DataFrame({"text": texts, "label": labels})
            if pairs is not None:
                table["text_pair"] = pairs
            table.to_parquet(folder / kind / f"{split}.parquet")
    tiny_bert_folder(folder / MODEL)
    return folder
