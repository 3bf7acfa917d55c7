"""Scenes on the small tasks of the test world, without a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import learning, models
from bench.contracts import Budget, Scene, TaskFacts
from bench.contracts.examples import Examples, Inputs
from tests.conftest import rows
from tests.tiny import tiny_bert_folder


def examples(kind: str, n: int, seed: int) -> Examples:
    """Return n examples of one kind of task."""
    import numpy as np

    texts, pairs, labels = rows(kind, n, seed)
    return Examples(Inputs(tuple(texts), None if pairs is None else tuple(pairs)), np.array(labels))


def make(
    folder: Path,
    *,
    kind: str = "single",
    n: int = 160,
    epochs: int = 3,
    rate: float = 2e-3,
    max_length: int = 32,
    **size: Any,
) -> Scene:
    """Return a scene with a tiny BERT of the given size; target 1."""
    if not (folder / "config.json").is_file():
        tiny_bert_folder(folder, **size)
    pretrained = models.create(str(folder))
    train, validation = examples(kind, n, 1), examples(kind, 80, 2)
    budget = Budget(epochs=epochs, learning_rate=rate, batch_size=16, precision="fp32")
    classes = 4 if kind == "four" else 2

    def fresh() -> Any:
        model = pretrained.classifier_model(classes=classes, seed=5)
        return learning.Classifier(model, pretrained.tokenizer(), max_length, device="cpu", precision="fp32")

    def fit(classifier: Any, data: Examples, **options: Any) -> Any:
        return learning.train(classifier, data, **{"seed": 3, **budget.model_dump(), **options})

    def tuned() -> Any:
        classifier = fresh()
        fit(classifier, train)
        return classifier

    return Scene(
        facts=TaskFacts(kind, tuple(map(str, range(classes))), kind == "pair", max_length),
        train=train,
        validation=validation,
        target=1,
        seed=11,
        budget=budget,
        window=learning.TokenWindow(pretrained.tokenizer(), max_length),
        pretrained=fresh,
        finetuned=tuned,
        fit=fit,
        masked_lm=pretrained.masked_lm,
    )
