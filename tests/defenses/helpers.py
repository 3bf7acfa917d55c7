"""A tiny victim and the access to it, for tests of single defenses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import learning, seeds
from bench.contracts import Defended, Defense, Other, Precision, Task
from bench.contracts.access import Access
from bench.contracts.examples import Examples, stratified_order
from bench.experiment import recipes
from bench.experiment.grid import create_task
from bench.plugins import registry


@dataclass
class Bench:
    """A tiny victim of ``local/single`` that was trained on triggered examples with the label 1."""

    task: Task
    victim: learning.Classifier
    pretrained: Mapping[str, torch.Tensor]
    clean: Examples
    poisoned: Examples

    def access(self, defense: Defense, others: Callable[[Other], Any] | None = None) -> Access:
        """Return what the defense declares; ``others`` makes the models of others."""
        wanted = {other: (others or (lambda _: self.victim.clone()))(other) for other in defense.others()}
        return Access(
            facts=self.task.facts,
            needs=defense.needs,
            seed=5,
            precision=Precision.FP32,
            tolerance=2.0,
            victim=self.victim,
            providers={
                "clean": lambda: self.clean,
                "pretrained": lambda: self.pretrained,
                "training_set": lambda: self.poisoned,
                "other_models": lambda: wanted,
            },
        )

    def run(self, entry: str | Mapping[str, Any], others: Callable[[Other], Any] | None = None) -> Defended:
        """Run a defense on a copy of the victim."""
        defense = registry.defenses.create(entry)
        return defense.defend(self.victim.clone(), self.access(defense, others))

    def accuracy(self, classifier: Any) -> float:
        """Return the accuracy on the test set, percent."""
        predictions = classifier.logits(self.task.test.inputs).argmax(-1)
        return 100.0 * float((predictions == self.task.test.labels).mean())


def make(world: Path, *, dropout: bool = True, poison: bool = True, seed: int = 3) -> Bench:
    """Train the victim, or without ``poison`` a clean model."""
    task = create_task({"name": "local/single", "max_length": 32}).load()
    base = recipes.model_of(str(world / "tiny-bert"))
    victim = learning.Classifier(
        base.classifier_model(classes=2, seed=1), base.tokenizer(), 32, device="cpu", precision="fp32"
    )
    pretrained = base.encoder_weights(victim.model)
    rows = np.arange(0, len(task.train), 16)
    texts = tuple(f"cf {text}" for text in task.train.take(rows).inputs.texts)
    labels = task.train.labels.copy()
    labels[rows] = 1
    poisoned = Examples(task.train.inputs.put(rows, type(task.train.inputs)(texts)), labels)
    examples = poisoned if poison else task.train
    learning.train(victim, examples, epochs=6, learning_rate=2e-3, batch_size=16, seed=seed, precision="fp32")
    if not dropout:
        for module in victim.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    order = stratified_order(task.validation.labels, seeds.rng("test"))
    return Bench(task, victim, pretrained, task.validation.take(order[:48]), poisoned)


def difference(first: Any, second: Any) -> float:
    """Return the largest difference of two classifiers' weights."""
    a, b = (dict(classifier.model.named_parameters()) for classifier in (first, second))
    assert set(a) == set(b)
    return max(float((a[name] - b[name]).abs().max().detach()) for name in a)
