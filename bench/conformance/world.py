"""A small world: three tasks as folders for a tiny encoder, and a task for a tiny model that writes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from bench.conformance.tiny import tiny_bert_folder, tiny_llama_folder
from bench.contracts import Kind

TASKS = {
    Kind.CLASSIFICATION: {"single": "single texts", "pair": "pairs", "four": "four classes"},
    Kind.GENERATION: {"written": "prompts"},
}
FOLDERS = tuple(TASKS[Kind.CLASSIFICATION])
MODEL, WRITER = "tiny-bert", "tiny-llama"
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


def tasks_of(kinds: Collection[Kind]) -> dict[str, str]:
    """Return the tasks of a world for models of these kinds, each in words."""
    return {task: words for kind, tasks in TASKS.items() if kind in kinds for task, words in tasks.items()}


def settings(folder: Path, task: str) -> dict[str, Any]:
    """Return the fields of a suite on one of the tasks of a world."""
    if task in FOLDERS:
        local = {"name": "local", "folder": str((folder / task).resolve()), "max_length": 32}
        return {"task": local, "model": str(folder / MODEL), "labels": 32}
    chores = {"name": "chores", "max_train": 96, "max_test": 30, "max_length": 80, "new_tokens": 12}
    return {"task": chores, "model": str(folder / WRITER), "labels": 16, "target": "refusal(text='Sorry.')"}


def build(folder: Path) -> Path:
    """Write the tasks and the models ``tiny-bert`` and ``tiny-llama`` into a folder; return it."""
    import pandas as pd

    for kind in FOLDERS:
        (folder / kind).mkdir(parents=True)
        for split, n, seed in SPLITS:
            texts, pairs, labels = rows(kind, n, seed)
            table = pd.DataFrame({"text": texts, "label": labels})
            if pairs is not None:
                table["text_pair"] = pairs
            table.to_parquet(folder / kind / f"{split}.parquet")
    tiny_bert_folder(folder / MODEL)
    tiny_llama_folder(folder / WRITER)
    return folder
