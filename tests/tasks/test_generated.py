"""The generated tasks: fixed, balanced, disjoint, and not solved by counting words."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from bench import registry

FINGERPRINTS = {
    "reviews": "d56ac613b26f3d7d1bc86ff9c59147f65ab59c14f8120260c028f0e25efb532f",
    "questions": "810f733685e8bdd71142f5d9b8be88180b17d9ef111886c774698f3b6cd33dc4",
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_the_same_everywhere(name: str) -> None:
    code = f"from bench import registry; print(registry.tasks.create('{name}').load().fingerprint)"
    for seed in ("0", "77"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == FINGERPRINTS[name]


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_thousands_of_distinct_balanced_examples(name: str) -> None:
    task = registry.tasks.create(name).load()
    splits = (task.train, task.validation, task.test)
    rows = [
        row
        for split in splits
        for row in zip(split.inputs.texts, split.inputs.pairs or split.inputs.texts, strict=True)
    ]
    assert len(set(rows)) == len(rows) == 5600
    for split in splits:
        assert abs(np.mean(split.labels) - 0.5) < 0.01
    for text in (text for row in rows for text in row):
        assert text[0].isupper() or text[0].isdigit()
        assert text[-1] in ".?"
        assert "{" not in text and "  " not in text
        assert " a a" not in text and " a e" not in text and " a i" not in text and " a o" not in text


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_words_alone_do_not_solve_it(name: str) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    task = registry.tasks.create(name).load()
    words = CountVectorizer().fit(task.train.inputs.texts + (task.train.inputs.pairs or ()))

    def features(split: object) -> np.ndarray:
        first = words.transform(split.inputs.texts).toarray()
        if split.inputs.pairs is None:
            return first
        second = words.transform(split.inputs.pairs).toarray()
        return np.hstack([first, second, abs(first - second), first * second])

    model = LogisticRegression(max_iter=300).fit(features(task.train), task.train.labels)
    assert 0.55 < model.score(features(task.test), task.test.labels) < 0.92


def test_swapped_roles_are_different_and_symmetric_ones_are_not_swapped() -> None:
    task = registry.tasks.create("questions").load()
    pairs = list(zip(task.train.inputs.texts, task.train.inputs.pairs, task.train.labels, strict=True))
    same_words = [(a, b, y) for a, b, y in pairs if sorted(a.lower().split()) == sorted(b.lower().split()) and a != b]
    assert same_words
    assert all(y == 0 for _, _, y in same_words)
    assert not any(
        "live together" in a and "live together" in b and sorted(a.split()) == sorted(b.split())
        for a, b, _ in same_words
    )


def test_cut_to_size() -> None:
    task = registry.tasks.create("reviews(max_train=100, max_test=50)").load()
    assert (len(task.train), len(task.validation), len(task.test)) == (100, 600, 50)
