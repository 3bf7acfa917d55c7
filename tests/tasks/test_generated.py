"""The generated tasks: fixed, balanced, disjoint, and as hard as they are asked to be."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from bench.plugins import registry
from bench.tasks.dice import grammar

FINGERPRINTS = {
    "reviews": "499e264e85e2e0177709685f3f67c754913f462af49bd794c7356ff06fa9ade2",
    "questions": "9ff857bdf64111bba3ac98af8fd39ace08a04958d2e1aa954186dba546199002",
    "entities": "9663ae7e0df21e5a8bf8ef25d8b0bfe7b119a3ba3f40f5884268d86cc26356f5",
}
SENTENCES = ("reviews", "questions")


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_the_same_everywhere(name: str) -> None:
    code = f"from bench.plugins import registry; print(registry.tasks.create('{name}').load().fingerprint)"
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
    for text in (text for row in rows if name in SENTENCES for text in row):
        assert text[0].isupper() or text[0].isdigit()
        assert text[-1] in ".?"
        assert "{" not in text and "  " not in text
        assert " a a" not in text and " a e" not in text and " a i" not in text and " a o" not in text


@pytest.mark.parametrize("name", FINGERPRINTS)
@pytest.mark.parametrize(("hard", "low", "high"), [(0.0, 0.93, 1.0), (1.0, 0.55, 0.92)])
def test_words_alone_solve_the_easy_examples_and_not_the_hard_ones(
    name: str, hard: float, low: float, high: float
) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    task = registry.tasks.create({"name": name, "hard": hard}).load()
    words = CountVectorizer().fit(task.train.inputs.texts + (task.train.inputs.pairs or ()))

    def features(split: object) -> np.ndarray:
        first = words.transform(split.inputs.texts).toarray()
        if split.inputs.pairs is None:
            return first
        second = words.transform(split.inputs.pairs).toarray()
        return np.hstack([first, second, abs(first - second), first * second])

    model = LogisticRegression(max_iter=300).fit(features(task.train), task.train.labels)
    assert low < model.score(features(task.test), task.test.labels) <= high


def test_hard_rows_share_maker_and_kind_and_differ_in_model_or_size() -> None:
    task = registry.tasks.create("entities(hard=1, max_train=600)").load()
    for first, second, same in zip(task.train.inputs.texts, task.train.inputs.pairs, task.train.labels, strict=True):
        models = [re.findall(r"\b[A-Z]\d{3}\b", text) for text in (first, second)]
        sizes = [re.search(r"size: (\d+)", first)[1], *re.findall(r"\b(\d+) [a-zA-Z\"]", second)]
        assert [len(one) for one in models] == [1, 1]
        assert same == (models[0] == models[1] and sizes[0] == sizes[1]), (first, second)
        assert any(maker in first and maker in second for maker in grammar("entities")["makers"])


def test_the_same_words_in_another_order_can_ask_something_else() -> None:
    task = registry.tasks.create("questions(hard=1)").load()
    pairs = list(zip(task.train.inputs.texts, task.train.inputs.pairs, task.train.labels, strict=True))
    same_words = [(a, b, y) for a, b, y in pairs if sorted(a.lower().split()) == sorted(b.lower().split()) and a != b]
    assert same_words
    assert all(y == 0 for _, _, y in same_words)


def test_every_rule_of_the_grammar_of_questions_can_be_asked() -> None:
    rules = grammar("questions")
    for intent in rules["intents"]:
        assert set(intent.get("swap", ())) <= set(intent["slots"]) and len(intent["ways"]) >= 3
        for kind in intent["slots"].values():
            assert len(rules["fillers"][kind]) >= 4
        for way in (*intent["ways"], *intent.get("opposite", ())):
            assert set(re.findall(r"{(.*?)}", way)) == set(intent["slots"]), way
            assert way.endswith("?")


def test_every_rule_of_the_grammar_of_reviews_can_be_said() -> None:
    rules = grammar("reviews")
    for domain in grammar("domains").values():
        assert len(domain["act"]) == 3 and len(domain["aspects"]) >= 3
        for aspect in domain["aspects"]:
            assert isinstance(aspect["link"], str)
            for kind in ("good", "bad", "does", "fails"):
                assert aspect[kind] and all(isinstance(text, str) for text in aspect[kind])
            assert not set(aspect["good"]) & set(aspect["bad"])
    text = " ".join(registry.tasks.create("reviews(hard=0.5)").load().train.inputs.texts)
    for template in (template for group in rules["templates"].values() for template in group):
        for words in re.split(r"{.*?}", template):
            assert words in text or words.strip().capitalize() in text or words[:1].upper() + words[1:] in text, (
                template
            )


def test_cut_to_size() -> None:
    task = registry.tasks.create("reviews(max_train=100, max_test=50)").load()
    assert (len(task.train), len(task.validation), len(task.test)) == (100, 600, 50)
