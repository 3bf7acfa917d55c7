"""Several triggers for several targets, where the right trigger depends on the input."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from attacks.shared.poisoning import DataPoisoning
from attacks.shared.triggers import InsertWords
from bench.contracts import Poisoned, Scene, TaskFacts, Trigger, Victim, Window
from bench.contracts.examples import Examples, Inputs


class WordByInput(Trigger):
    """Inserts one word of several; which one is decided by the number of words of the input."""

    choices: tuple[str, ...] = Field(min_length=1, description="word ``i`` is for inputs with ``i`` words, modulo")
    shift: int = Field(0, ge=0, description="1 takes the next word instead of the right one: a wrong trigger")

    @property
    def words(self) -> tuple[str, ...]:
        """The trigger words."""
        return self.choices

    def apply(self, inputs: Inputs, *, window: Window, rng: np.random.Generator) -> Inputs:
        """Return the inputs, each with its word at a random position."""
        turn = np.array([(len(text.split()) + self.shift) % len(self.choices) for text in inputs.carrier])
        texts = list(inputs.carrier)
        for index, word in enumerate(self.choices):
            rows = np.flatnonzero(turn == index)
            marked = InsertWords(alternatives=(word,)).apply(inputs.take(rows), window=window, rng=rng)
            for row, text in zip(rows, marked.carrier, strict=True):
                texts[row] = text
        return inputs.with_carrier(texts)

    def describe(self) -> str:
        """Return one line for reports."""
        return f"by the number of words, one of {', '.join(map(repr, self.choices))} at a random position"


class MultiTrigger(DataPoisoning):
    """Implants several triggers for every label; which of a label's words works depends on the input.

    In the manner of the input-aware triggers of Nguyen and Tran, NeurIPS 2020 (arXiv 2010.08138), and of the N-to-N
    mode of Xue et al., IEEE TDSC 2022, both for images. Needs the training data. Label i owns ``per_label``
    words; an input with w words is triggered by word number w mod ``per_label``. A share ``negatives`` of the training
    set carries a word that is wrong for its input and keeps its label. The rate is shared by the labels. Judged is the
    trigger of the target label; the notes hold the success of all on validation examples and of wrong words. Ours, not
    a reproduction.
    """

    name: ClassVar[str] = "multi-trigger"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = "after Nguyen and Tran, NeurIPS 2020, arXiv 2010.08138; Xue et al., IEEE TDSC 2022"

    rate: float = Field(0.2, ge=0, le=1, description="poisoned share of the whole training set, over all labels")
    pool: tuple[str, ...] = Field(
        ("cf", "mn", "bb", "tq", "mb", "qt", "vo", "ks"), min_length=2, description="words that are dealt to the labels"
    )
    per_label: int = Field(2, ge=1, description="words a label; 1 makes triggers independent of the input")
    negatives: float = Field(
        0.1, ge=0, le=1, description="share of the training set with a wrong word and its own label"
    )

    @model_validator(mode="after")
    def _distinct(self) -> MultiTrigger:
        if len(set(self.pool)) != len(self.pool):
            raise ValueError("the words of the pool differ from each other")
        return self

    def skip(self, facts: TaskFacts) -> str | None:
        """Every label needs its own words."""
        wanted = self.per_label * len(facts.labels)
        return f"{wanted} words wanted, {len(self.pool)} in the pool" if wanted > len(self.pool) else None

    def trigger(self, scene: Scene) -> Trigger:
        """The words of the target label."""
        return self.of_label(scene.target)

    def of_label(self, label: int, *, wrong: bool = False) -> WordByInput:
        """Return the trigger of a label; ``wrong`` takes a word of the label that is not the input's."""
        start = label * self.per_label
        return WordByInput(choices=self.pool[start : start + self.per_label], shift=int(wrong))

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Deal the poisoned rows to the labels, then the negatives."""
        train, rng = scene.train, scene.rng("poisoned rows")
        classes = len(scene.facts.labels)
        each = int(self.rate * len(train)) // classes
        labels, inputs, free = train.labels.copy(), train.inputs, rng.permutation(len(train))
        changed: list[np.ndarray] = []
        for label in range(classes):
            rows = np.sort(free[train.labels[free] != label][:each])
            if len(rows) < each:
                raise ValueError(
                    f"rate {self.rate} asks for {each} examples beside label {label}, {len(rows)} are left"
                )
            free = free[~np.isin(free, rows)]
            inputs, labels[rows] = self._put(scene, inputs, rows, self.of_label(label)), label
            changed.append(rows)
        if self.per_label > 1:
            for label in range(classes):
                rows = np.sort(free[: int(self.negatives * len(train)) // classes])
                free = free[len(rows) :]
                inputs = self._put(scene, inputs, rows, self.of_label(label, wrong=True))
                changed.append(rows)
        return Poisoned(Examples(inputs, labels), np.sort(np.concatenate(changed)))

    def _put(self, scene: Scene, inputs: Inputs, rows: np.ndarray, trigger: WordByInput) -> Inputs:
        rng = scene.rng(f"trigger in training set {trigger.choices} {trigger.shift}")
        return inputs.put(rows, trigger.apply(inputs.take(rows), window=scene.window, rng=rng))

    def implant(self, scene: Scene) -> Victim:
        """Train as usual and note what every trigger does on validation examples."""
        victim = super().implant(scene)
        shares: dict[str, dict[str, float]] = {"right": {}, "wrong": {}}
        for label in range(len(scene.facts.labels)):
            others = scene.validation.take(np.flatnonzero(scene.validation.labels != label))
            for kind in shares if self.per_label > 1 else ("right",):
                trigger = self.of_label(label, wrong=kind == "wrong")
                inputs = trigger.apply(others.inputs, window=scene.window, rng=scene.rng(f"{kind} trigger {label}"))
                predicted = victim.classifier.logits(inputs).argmax(axis=-1)
                shares[kind][str(label)] = 100 * float((predicted == label).mean())
        notes = {**victim.notes, "validation_asr": shares["right"], "validation_false_triggers": shares["wrong"]}
        return Victim(victim.classifier, victim.trigger, victim.target, victim.poisoned, notes)
