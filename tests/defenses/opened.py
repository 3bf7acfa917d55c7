"""What a defense is given in these tests: a tiny victim and everything that it may declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench import learning, models
from bench.contracts import Budget, Defense, Precision, TaskFacts
from bench.contracts.access import Access
from bench.contracts.examples import Examples, Inputs
from bench.plugins import registry
from tests.conftest import rows

BUDGET = Budget(epochs=1, learning_rate=1e-3, batch_size=16, precision=Precision.FP32)


def sample(kind: str, n: int, seed: int) -> Examples:
    """Return n examples of a kind of task."""
    texts, pairs, labels = rows(kind, n, seed)
    return Examples(Inputs(tuple(texts), None if pairs is None else tuple(pairs)), np.array(labels))


def tiny(world: Path, *, classes: int = 2, seed: int = 0) -> learning.Classifier:
    """Return an untrained tiny classifier."""
    model = models.create(str(world / "tiny-bert"))
    return learning.Classifier(
        model.classifier_model(classes=classes, seed=seed), model.tokenizer(), 32, device="cpu", precision="fp32"
    )


def trained(world: Path, train: Examples, **options: Any) -> learning.Classifier:
    """Return a tiny classifier that has learned the examples."""
    classifier = tiny(world, classes=int(train.labels.max()) + 1)
    settings = {"epochs": 6, "learning_rate": 3e-3, "batch_size": 16, "seed": 0, "precision": "fp32", **options}
    learning.train(classifier, train, **settings)
    return classifier


def access(
    world: Path, defense: Defense, victim: learning.Classifier, *, kind: str = "single", train: Examples | None = None
) -> Access:
    """Return what the defense declares, of one kind of task."""
    classes = 4 if kind == "four" else 2
    examples = train if train is not None else sample(kind, 120, 1)
    encoder = models.create(str(world / "tiny-bert"))
    return Access(
        facts=TaskFacts(kind, tuple(str(i) for i in range(classes)), kind == "pair", 32),
        needs=defense.needs,
        seed=5,
        precision=Precision.FP32,
        tolerance=2.0,
        victim=victim,
        providers={
            "clean": lambda: sample(kind, 64, 2),
            "pretrained": lambda: encoder.encoder_weights(victim.model),
            "untrained": lambda: tiny(world, classes=classes, seed=9),
            "training_set": lambda: examples,
            "unlabelled": lambda: sample(kind, 120, 1).inputs,
        },
        budget=BUDGET,
    )


def made(entry: str) -> Any:
    """Return a defense as a suite would spell it."""
    return registry.defenses.create(entry)
