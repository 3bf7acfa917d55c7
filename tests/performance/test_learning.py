"""The fast core beside the naive way, with the real embedded encoder. Run ``tox run -e perf`` to see the times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bench import learning, plm, registry
from bench.examples import Examples

BATCH = 16


@pytest.fixture(scope="module")
def examples() -> Examples:
    train = registry.tasks.create("reviews(max_train=64)").load().train
    return train.take(np.random.default_rng(0).permutation(len(train)))


@pytest.fixture
def classifier() -> Any:
    model = plm.create("embedded")
    return learning.Classifier(model.classifier_model(classes=2, seed=0), model.tokenizer(), 128, device="cpu")


def naive_epoch(classifier: Any, examples: Examples) -> None:
    """Tokenise each batch, pad to its longest in random order, float32, AdamW: as older suites write it."""
    optimiser = torch.optim.AdamW(classifier.model.parameters(), lr=5e-5)
    classifier.model.train()
    for start in range(0, len(examples), BATCH):
        part = examples.take(range(start, start + BATCH))
        batch = classifier.tokenizer(list(part.inputs.texts), padding=True, truncation=True, return_tensors="pt")
        loss = classifier.model(**batch, labels=torch.from_numpy(part.labels.copy())).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(classifier.model.parameters(), 1.0)
        optimiser.step()


def naive_prediction(classifier: Any, examples: Examples) -> None:
    """Batches in the order of the data, float32."""
    with torch.no_grad():
        for start in range(0, len(examples), 32):
            texts = list(examples.inputs.texts[start : start + 32])
            classifier.model(**classifier.tokenizer(texts, padding=True, truncation=True, return_tensors="pt"))


@pytest.mark.benchmark(group="training")
@pytest.mark.parametrize("way", ["naive", "ours"])
def test_training(benchmark: Any, classifier: Any, examples: Examples, way: str) -> None:
    if way == "naive":
        benchmark.pedantic(naive_epoch, args=(classifier, examples), rounds=3, warmup_rounds=1)
    else:
        settings = {"epochs": 1, "learning_rate": 5e-5, "batch_size": BATCH, "seed": 0}
        notes = benchmark.pedantic(
            learning.train, args=(classifier, examples), kwargs=settings, rounds=3, warmup_rounds=1
        )
        assert notes["steps"] == len(examples) // BATCH


@pytest.mark.benchmark(group="prediction")
@pytest.mark.parametrize("way", ["naive", "ours"])
def test_prediction(benchmark: Any, classifier: Any, examples: Examples, way: str) -> None:
    if way == "naive":
        benchmark.pedantic(naive_prediction, args=(classifier, examples), rounds=3, warmup_rounds=1)
    else:
        found = benchmark.pedantic(classifier.logits, args=(examples.inputs,), rounds=3, warmup_rounds=1)
        assert found.shape == (len(examples), 2)


@pytest.mark.benchmark(group="mixing 22.7 M parameters")
@pytest.mark.parametrize("way", ["copy", "ours"])
def test_mixing(benchmark: Any, classifier: Any, way: str) -> None:
    model = plm.create("embedded")
    victim, before = classifier.clone(), model.encoder_weights(classifier.model)
    if way == "copy":
        benchmark.pedantic(lambda: {name: tensor.clone() for name, tensor in before.items()}, rounds=3)
    else:
        settings = {"reserve_ratio": 0.5, "seed": 0}
        benchmark.pedantic(learning.mix_into, args=(victim, before), kwargs=settings, rounds=3, warmup_rounds=1)
        assert victim.logits(registry.tasks.create("reviews(max_test=8)").load().test.inputs).shape == (8, 2)
