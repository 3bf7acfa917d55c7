"""Scenes with tiny real models in which training is real."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench import learning, models
from bench.contracts import Budget, Precision, Scene, TaskFacts
from bench.contracts.examples import Examples, Inputs
from tests.conftest import rows
from tests.tiny import tiny_bert_folder, tiny_roberta_folder

BUDGET = Budget(epochs=6, learning_rate=2e-3, batch_size=16, precision=Precision.FP32)
MAKERS = {"bert": tiny_bert_folder, "roberta": tiny_roberta_folder}


def data(kind: str, n: int, seed: int) -> Examples:
    texts, pairs, labels = rows(kind, n, seed)
    return Examples(Inputs(tuple(texts), tuple(pairs) if pairs else None), np.array(labels))


def scene(folder: Path, *, architecture: str = "bert", kind: str = "single", budget: Budget = BUDGET) -> Scene:
    """Return a scene of a generated task; its clean model is trained when it is first asked for."""
    place = folder / architecture
    model = models.create(str(place if place.is_dir() else MAKERS[architecture](place)))
    train = data(kind, 160, 1)
    facts = TaskFacts(kind, ("negative", "positive"), pair=kind == "pair", max_length=32)

    def fit(classifier: Any, examples: Examples, **options: Any) -> dict[str, Any]:
        return learning.train(classifier, examples, **{"seed": 5, **budget.model_dump(), **options})

    def pretrained() -> learning.Classifier:
        made = model.classifier_model(classes=2, seed=1)
        return learning.Classifier(made, model.tokenizer(), 32, device="cpu", precision="fp32")

    @cache
    def tuned() -> learning.Classifier:
        classifier = pretrained()
        fit(classifier, train)
        return classifier

    return Scene(
        facts=facts,
        train=train,
        validation=data(kind, 80, 2),
        target=1,
        seed=3,
        budget=budget,
        window=learning.TokenWindow(model.tokenizer(), 32),
        pretrained=pretrained,
        finetuned=lambda: tuned().clone(),
        fit=fit,
    )


def rate(classifier: Any, trigger: Any, made: Scene, examples: Examples) -> float:
    """Return the attack success rate on examples, percent."""
    others = examples.take(np.flatnonzero(examples.labels != made.target))
    triggered = trigger.apply(others.inputs, window=made.window, rng=np.random.default_rng(0))
    return 100.0 * float((classifier.logits(triggered).argmax(-1) == made.target).mean())
