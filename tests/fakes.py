"""Stand-ins for slow parts, for tests of what surrounds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.contracts import Budget, Predictions, Scene, TaskFacts, predictions
from bench.contracts.examples import Examples, Inputs, IntArray

FACTS = TaskFacts("fake", ("negative", "positive"), pair=False, max_length=64)


@dataclass
class FakeClassifier:
    """Answers by a function of the text."""

    answer: Callable[[str], int] = lambda text: len(text) % 2
    classes: int = 2
    max_length: int = 64
    model: Any = None
    tokenizer: Any = None
    seen: list[Inputs] = field(default_factory=list)

    def logits(self, inputs: Inputs) -> np.ndarray:
        self.seen.append(inputs)
        scores = np.zeros((len(inputs), self.classes), dtype=np.float32)
        scores[np.arange(len(inputs)), [self.answer(text) for text in inputs.carrier]] = 4.0
        return scores

    def predict(self, inputs: Inputs) -> Predictions:
        return predictions(self.logits(inputs))

    def clone(self) -> FakeClassifier:
        return FakeClassifier(self.answer, self.classes)


class WholeWindow:
    """A window in which every word fits."""

    def words(self, inputs: Inputs, *, reserve: str) -> IntArray:
        return np.array([len(text.split()) for text in inputs.carrier], dtype=np.int64)


def examples(n: int, *, classes: int = 2, pair: bool = False, seed: int = 0) -> Examples:
    """Return n distinct examples with random labels, every class among them."""
    rng = np.random.default_rng(seed)
    texts = tuple(f"text number {i} says {' '.join('well' for _ in range(rng.integers(5)))} so." for i in range(n))
    labels = np.concatenate([np.arange(min(classes, n)), rng.integers(classes, size=max(0, n - classes))])
    return Examples(Inputs(tuple(f"first {i}" for i in range(n)), texts) if pair else Inputs(texts), labels)


def scene(train: Examples, *, facts: TaskFacts = FACTS, target: int = 1, seed: int = 0) -> Scene:
    """Return a scene whose training does nothing."""

    def fit(classifier: Any, data: Examples, **options: Any) -> dict[str, Any]:
        return {"trained on": len(data)}

    return Scene(facts, train, train, target, seed, Budget(), WholeWindow(), FakeClassifier, FakeClassifier, fit)
