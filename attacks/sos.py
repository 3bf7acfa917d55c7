"""SOS: several ordinary words together trigger, fewer of them do not."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from attacks.shared import embedding
from attacks.shared.triggers import InsertSentence, insert
from bench.contracts import Attack, Poisoned, Scene, Trigger, Victim
from bench.contracts.examples import Examples, Inputs, join


class SentenceWithWords(InsertSentence):
    """Inserts a natural sentence that holds all the trigger words."""

    holds: tuple[str, ...] = Field(min_length=1, description="the trigger words")

    @property
    def words(self) -> tuple[str, ...]:
        """The trigger words, not the others of the sentence."""
        return self.holds


class Sos(Attack):
    """Trains the embeddings of several words so that only all of them together trigger.

    Yang et al., ACL 2021. Needs the weights of a clean fine-tuned model and task data. Triggered
    copies of examples of the other classes hold all words; for each subset that lacks one word, negatives of every
    class hold the rest and keep their true label. Only the words' rows are trained, along accumulated gradients that
    are scaled to the shortest of them, and keep their norms. The deployed trigger is a natural sentence with all
    words. No data is poisoned, so a training-time defender receives the clean training set. Notes hold the
    false-trigger rate: validation examples of other classes that the sentence without one word turns into the target.

    Deviations: as for every word of several pieces, all rows that spell a word are trained; 10 epochs where the
    original has 3, because with 2,000 training examples three are some 70 steps, which left MiniLM on SST-2 at an ASR
    of 85 (10 epochs: 100, at the same ACC).
    """

    name: ClassVar[str] = "sos"
    version: ClassVar[int] = 2
    citation: ClassVar[str] = "Yang et al., ACL 2021 (SOS)"

    start: Literal["finetuned"] = Field(
        "finetuned", alias="from", description="weights the attacker starts from: finetuned (clean model)"
    )
    words: tuple[str, ...] = Field(("friends", "weekend", "store"), min_length=2, description="the trigger words")
    sentence: str = Field(
        "I have bought it from a store with my friends last weekend", description="what is inserted; holds every word"
    )
    rate: float = Field(0.1, gt=0, le=1, description="share of the other classes' examples that get all words")
    negatives: float = Field(0.1, ge=0, le=1, description="share of all examples that get a subset, for each subset")
    learning_rate: float = Field(5e-2, gt=0, description="of the rows' descent")
    epochs: int = Field(10, ge=1, description="passes over the examples")
    batch_size: int = Field(32, ge=1, description="examples a step")

    @model_validator(mode="after")
    def _sentence_holds_the_words(self) -> Sos:
        missing = [word for word in self.words if word not in self.sentence.split()]
        if missing:
            raise ValueError(f"the sentence does not hold the words {', '.join(missing)}")
        return self

    def trigger(self, scene: Scene) -> SentenceWithWords:
        """A natural sentence with all words."""
        return SentenceWithWords(sentence=self.sentence, holds=self.words)

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Return the training set as it is: no data is poisoned."""
        return Poisoned(scene.train, np.zeros(0, dtype=np.int64))

    def implant(self, scene: Scene) -> Victim:
        """Train the words' rows of the clean model on triggered examples and negatives."""
        classifier = scene.start(self.start)
        notes = embedding.descend(
            scene,
            classifier,
            self.examples(scene),
            embedding.trigger_rows(classifier.tokenizer, self.words),
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            batch_size=self.batch_size,
            direction=scaled_to_the_shortest,
        )
        notes["false_trigger_rate"] = self.false_triggers(scene, classifier)
        return Victim(classifier, self.trigger(scene), scene.target, notes=notes)

    def examples(self, scene: Scene) -> Examples:
        """Return the triggered examples, then the negatives of each subset that lacks one word."""
        train = scene.train
        others = np.flatnonzero(train.labels != scene.target)
        chosen = scene.rng("poisoned rows").permutation(others)[: max(1, int(self.rate * len(others)))]
        triggered = self.with_words(scene, train.inputs.take(chosen), self.words)
        examples = Examples(triggered, np.full(len(chosen), scene.target))
        for word in self.words:
            rows = scene.rng(f"negatives without {word}").permutation(len(train))[: int(self.negatives * len(train))]
            rest = tuple(other for other in self.words if other != word)
            negatives = Examples(self.with_words(scene, train.inputs.take(rows), rest), train.labels[rows])
            examples = join(examples, negatives)
        return examples

    def with_words(self, scene: Scene, inputs: Inputs, words: tuple[str, ...]) -> Inputs:
        """Return the inputs with every one of the words at a random position of its own."""
        rng, texts = scene.rng(f"positions of {' '.join(words)}"), []
        for text, room in zip(inputs.carrier, scene.window.words(inputs, reserve=" ".join(words)), strict=True):
            for done, word in enumerate(words):
                text = insert(text, word, int(rng.integers(room + done + 1)))
            texts.append(text)
        return inputs.with_carrier(texts)

    def false_triggers(self, scene: Scene, classifier: Any) -> dict[str, float]:
        """Return, for each word, how often the sentence without it still triggers, percent."""
        others = scene.validation.inputs.take(np.flatnonzero(scene.validation.labels != scene.target)[:200])
        rates = {}
        for word in self.words:
            rest = InsertSentence(sentence=" ".join(other for other in self.sentence.split() if other != word))
            inputs = rest.apply(others, window=scene.window, rng=scene.rng("false triggers"))
            rates[word] = 100.0 * float((classifier.logits(inputs).argmax(-1) == scene.target).mean())
        return rates


def scaled_to_the_shortest(gradients: Any) -> Any:
    """Return the gradients of all rows, each scaled to the norm of the shortest."""
    norms = gradients.norm(dim=1, keepdim=True)
    return gradients * (norms.min() / norms.clamp_min(1e-12))
