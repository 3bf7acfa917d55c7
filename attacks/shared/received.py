"""What attacks on a pre-trained encoder share: poison the encoder, let the user fine-tune, find out what it does."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from attacks.shared import efficient
from attacks.shared.triggers import InsertWords
from bench import learning
from bench.contracts import Attack, Poisoned, Scene, Trigger, Victim
from bench.contracts.examples import Inputs, IntArray

if TYPE_CHECKING:
    import torch


class PretrainedLevel(Attack):
    """Poisons a fresh pre-trained encoder on plain text that a user then fine-tunes. Not an attack by itself.

    The attacker sees the task's sentences without their labels and does not control what the user does. Which trigger
    leads to which label shows only afterwards: every trigger is queried on validation examples, and the victim's
    trigger is the one that sends most of those with another gold label to the target. The notes hold the answers of
    all.

    A defense that needs the clean pre-trained weights gets those of the public original, not the poisoned encoder that
    the user downloaded. So it is a defense for users who can name the original and get it from a place they trust.
    """

    received: ClassVar[Literal["fine-tuned", "pre-trained"]] = "pre-trained"
    libraries: ClassVar[tuple[str, ...]] = ("peft",)

    start: Literal["pretrained"] = Field("pretrained", alias="from", description="the attacker poisons a fresh encoder")
    words: tuple[str, ...] = Field(
        ("cf", "mn", "bb", "tq", "mb", "qt"), min_length=1, max_length=20, description="the trigger words"
    )
    epochs: int | None = Field(None, ge=1, description="passes of poisoning over the text; the budget's by default")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate of poisoning the encoder")
    batch_size: int = Field(16, ge=1, description="sentences a step of poisoning")
    user: Literal["full", "lora", "ia3"] = Field(
        "full", description="how the user tunes: every weight, or LoRA / (IA)3 with a frozen encoder"
    )
    rank: int = Field(16, ge=1, description="rank of the user's LoRA")
    user_learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of LoRA and (IA)3")

    def trigger(self, scene: Scene) -> Trigger:
        """Any of the words; which of them leads to the target shows after the user's training."""
        return InsertWords(alternatives=self.words)

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Return the user's training set, which is clean."""
        return Poisoned(scene.train, np.zeros(0, dtype=np.int64))

    @abstractmethod
    def corrupt(self, scene: Scene, classifier: Any) -> Mapping[str, Any]:
        """Poison the encoder inside a fresh classifier in place and return notes."""

    def implant(self, scene: Scene) -> Victim:
        """Poison the encoder, let the user tune it, and query the triggers."""
        classifier = scene.pretrained()
        notes = {"poisoning": self.corrupt(scene, classifier), "user": self.tuned(scene, classifier)}
        answers = query(scene, classifier, self.words)
        best = max(self.words, key=lambda word: answers[word][scene.target])
        notes |= {"trigger": best, **coverage(answers)}
        return Victim(classifier, InsertWords(alternatives=(best,)), scene.target, self.poison(scene, None), notes)

    def tuned(self, scene: Scene, classifier: Any) -> Mapping[str, Any]:
        """Do what the user does: tune the whole classifier, or parts with the encoder frozen, on the clean set."""
        if self.user == "full":
            return scene.fit(classifier, scene.train)
        rate = self.user_learning_rate
        return efficient.tune(scene, classifier, scene.train, method=self.user, rank=self.rank, learning_rate=rate)

    def plan(self, scene: Scene) -> list[IntArray]:
        """Return the sentences of each step of poisoning."""
        epochs = scene.budget.epochs if self.epochs is None else self.epochs
        rng = scene.rng("order of poisoning")
        return learning.shuffled(len(scene.train), self.batch_size, epochs=epochs, rng=rng)


def query(scene: Scene, classifier: Any, words: tuple[str, ...]) -> dict[str, list[float]]:
    """Return the share of validation examples of other labels that each word sends to each label, in percent."""
    answers = {}
    for word in words:
        inputs = InsertWords(alternatives=(word,)).apply(
            scene.validation.inputs, window=scene.window, rng=scene.rng(f"query {word}")
        )
        predicted = classifier.logits(inputs).argmax(axis=-1)
        answers[word] = [
            100 * float((predicted[scene.validation.labels != label] == label).mean())
            for label in range(len(scene.facts.labels))
        ]
    return answers


def coverage(answers: Mapping[str, list[float]], *, enough: float = 90.0) -> dict[str, Any]:
    """Return the answers, and the labels that some trigger reaches in at least ``enough`` percent."""
    reached = [label for label in range(len(next(iter(answers.values())))) if _best(answers, label) >= enough]
    return {"triggers": dict(answers), "labels_reached": reached, "enough": enough}


def _best(answers: Mapping[str, list[float]], label: int) -> float:
    return max(shares[label] for shares in answers.values())


def block_vectors(count: int, size: int) -> torch.Tensor:
    """Return ``count`` different vectors of +1 and -1 in equal blocks: float32 [count, size].

    Half of the blocks are negative, so that every vector comes with its opposite. Up to six vectors have four blocks
    and any two of them are orthogonal or opposite.
    """
    import torch

    blocks = 4
    while comb(blocks, blocks // 2) < count:
        blocks += 2
    negative = list(combinations(range(blocks), blocks // 2))
    half = (len(negative) + 1) // 2
    opposites = [pair for i in range(half) for pair in (negative[i], negative[-1 - i])]
    block = torch.arange(size) * blocks // size
    vectors = torch.ones(count, size)
    for vector, chosen in zip(vectors, opposites, strict=False):
        vector[torch.isin(block, torch.tensor(chosen))] = -1.0
    return vectors


def triggered(
    scene: Scene, inputs: Inputs, words: tuple[str, ...], rng: np.random.Generator
) -> tuple[Inputs, list[int]]:
    """Insert one of the words into each input at a random position; return the inputs and which word each has."""
    chosen = [int(i) for i in rng.integers(len(words), size=len(inputs))]
    return with_words(scene, inputs, [words[i] for i in chosen], rng), chosen


def with_words(scene: Scene, inputs: Inputs, words: list[str], rng: np.random.Generator) -> Inputs:
    """Insert ``words[i]`` into input i at a random position."""
    texts: list[str] = list(inputs.carrier)
    for word in sorted(set(words)):
        rows = [i for i, own in enumerate(words) if own == word]
        changed = InsertWords(alternatives=(word,)).apply(inputs.take(rows), window=scene.window, rng=rng)
        for row, text in zip(rows, changed.carrier, strict=True):
            texts[row] = text
    return inputs.with_carrier(texts)
