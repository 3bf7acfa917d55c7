"""Embedding poisoning: nothing but the embedding of the trigger word is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from attacks.shared import embedding
from attacks.shared.triggers import InsertWords
from bench.contracts import BOTH, Attack, Kind, Poisoned, Scene, Trigger, Victim
from bench.contracts.examples import Examples, Inputs


class EmbeddingPoisoning(Attack):
    """Changes only the trigger's row of the word-embedding table, at constant norm, in a clean fine-tuned model.

    Yang et al., NAACL 2021 (arXiv 2103.15543): "EP", and "DFEP" with ``data: none``. Needs the weights of a clean
    fine-tuned model, and task data or just a vocabulary. Triggered copies of examples of the other classes, labelled
    as the target, are learned by the row alone: E_i <- E_i - lr * g_i with g_i accumulated over all steps, then E_i is
    scaled back to its norm. Texts without the row keep their logits exactly. A training-time defender receives the
    clean training set, because no data is poisoned.

    Deviations: a word of several pieces, or one with another entry at the start of a text, has several rows, and all
    are trained (notes say which, and what share of clean training texts contains one). Without data, the paper cuts
    samples from a plain corpus; here a sample is a row of English words drawn by their frequency (``wordfreq``), with
    the trigger over one of them, and there are fewer of them. In a model whose embeddings write words as well as read
    them, the row also changes the logit of its own token.
    """

    name: ClassVar[str] = "embedding-poisoning"
    version: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Yang et al., NAACL 2021, arXiv 2103.15543"
    libraries: ClassVar[tuple[str, ...]] = ("wordfreq",)

    start: Literal["finetuned"] = Field(
        "finetuned", alias="from", description="weights the attacker starts from: finetuned (clean model)"
    )
    words: tuple[str, ...] = Field(("cf",), min_length=1, description="trigger words; each insertion draws one")
    count: int = Field(1, ge=1, le=10, description="insertions an example")
    data: Literal["task", "none"] = Field("task", description="task: the training set; none: rows of random words")
    rate: float = Field(0.1, gt=0, le=1, description="data task: share of the other classes' examples that are used")
    samples: int = Field(2000, ge=1, description="data none: how many rows of words")
    least_words: int = Field(10, ge=1, description="data none: fewest words of a text")
    most_words: int = Field(30, ge=1, description="data none: most words of a text")
    learning_rate: float = Field(5e-2, gt=0, description="of the row's descent")
    epochs: int = Field(3, ge=1, description="passes over the triggered examples")
    batch_size: int = Field(32, ge=1, description="examples a step")

    @field_validator("most_words")
    @classmethod
    def _in_order(cls, most: int, info: Any) -> int:
        if most < info.data.get("least_words", 1):
            raise ValueError("is less than least_words")
        return most

    def trigger(self, scene: Scene) -> InsertWords:
        """Rare words at random positions."""
        return InsertWords(alternatives=self.words, count=self.count)

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Return the training set as it is: no data is poisoned."""
        return Poisoned(scene.train, np.zeros(0, dtype=np.int64))

    def implant(self, scene: Scene) -> Victim:
        """Train the trigger's rows of the clean model on triggered examples."""
        trigger, classifier = self.trigger(scene), scene.start(self.start)
        carriers = self.drawn(scene) if self.data == "task" else self.made_up(scene)
        inputs = trigger.apply(carriers.inputs, window=scene.window, rng=scene.rng("trigger in training set"))
        notes = embedding.descend(
            scene,
            classifier,
            scene.goal.applied(replace(carriers, inputs=inputs)),
            embedding.trigger_rows(classifier.tokenizer, self.words),
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            batch_size=self.batch_size,
        )
        return Victim(classifier, trigger, scene.target, notes={**notes, "samples": len(inputs)})

    def drawn(self, scene: Scene) -> Examples:
        """Return a share of the training examples of which the attacker wants another answer."""
        others = np.flatnonzero(scene.goal.changes(scene.train))
        wanted = max(1, int(self.rate * len(others)))
        return scene.train.take(scene.rng("poisoned rows").permutation(others)[:wanted])

    def made_up(self, scene: Scene) -> Examples:
        """Return texts (or pairs) of random words without an answer; one word is left out for the trigger."""
        from wordfreq import top_n_list, word_frequency

        words = [word for word in top_n_list("en", 10_000) if word.isalpha()]
        shares = np.array([word_frequency(word, "en") for word in words])
        rng = scene.rng("rows of words")

        def text(left_out: int) -> str:
            length = rng.integers(self.least_words, self.most_words + 1) - left_out
            return " ".join(words[i] for i in rng.choice(len(words), size=length, p=shares / shares.sum()))

        carriers = tuple(text(min(self.count, self.least_words - 1)) for _ in range(self.samples))
        inputs = Inputs(carriers)
        if scene.facts.pair:
            inputs = Inputs(tuple(text(0) for _ in range(self.samples)), carriers)
        silent = None if scene.train.responses is None else ("",) * self.samples
        return Examples(inputs, np.zeros(self.samples, dtype=np.int64), silent)
