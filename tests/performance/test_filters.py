"""A test-time defense has to be batched: it may cost its forward passes, and not three times as much."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from bench import learning, models
from bench.contracts import Precision, TaskFacts
from bench.contracts.access import Access
from bench.contracts.examples import Examples
from bench.plugins import registry

FILTERS = (
    "onion(level=0.9)",
    "rap(steps=1)",
    "strip(copies=4)",
    "badacts(epochs=0)",
    "badacts-detection",
    "attdef(steps=3, tau=0.5)",
    "psim(samples=8, epochs=1)",
    "demonstrations(share=0.5)",
)
SLOWEST = 3.0


@pytest.fixture(scope="module")
def data() -> Examples:
    train = registry.tasks.create("reviews(max_train=128)").load().train
    return train.take(np.random.default_rng(0).permutation(len(train)))


@pytest.fixture(scope="module")
def classifier() -> learning.Classifier:
    model = models.create("embedded")
    return learning.Classifier(model.classifier_model(classes=2, seed=0), model.tokenizer(), 64, device="cpu")


def fastest(work: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times):
        started = time.process_time()  # of this process, whatever else the machine does
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


@pytest.mark.parametrize("entry", FILTERS)
def test_a_filter_is_at_most_three_times_as_slow_as_its_forward_passes(
    data: Examples, classifier: learning.Classifier, entry: str
) -> None:
    defense = registry.defenses.create(entry)
    clean, test = (data.take(range(*part)) for part in ((0, 48), (64, 128)))
    access = Access(
        facts=TaskFacts("reviews", ("negative", "positive"), False, 64),
        needs=defense.needs,
        seed=0,
        precision=Precision.AUTO,
        tolerance=2.0,
        victim=classifier,
        providers={
            "clean": lambda: clean,
            "pretrained": lambda: models.create("embedded").encoder_weights(classifier.model),
            "unlabelled": lambda: data.inputs,
        },
    )
    defended = defense.defend(classifier.clone(), access)
    passes = defended.notes["forward_passes"]
    plain = fastest(lambda: classifier.logits(test.inputs), 3)
    guarded = fastest(lambda: defended.predict(test.inputs), 2)
    assert guarded <= SLOWEST * passes * plain, f"{guarded:.2f} s for {passes} passes of {plain:.2f} s"
