"""MBTSAD: retrain on text with split tokens, then distil attention; no pre-trained weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from bench import seeds
from bench.contracts import Classifier, Defended, Needs
from bench.contracts.examples import Examples, Inputs, join
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Mbtsad(Tuning):
    """Retrains a copy of the victim on clean text with split words, which then teaches the victim its attention.

    Ding, Niu and Yi, ICTAI 2024 (arXiv 2501.02754). Needs clean examples, and no pre-trained weights.

    1. Token splitting: in each of ``copies`` copies of the clean sample every word of two letters or more is cut in
       two with probability ``split``. The teacher is the victim, retrained on these copies.
    2. Attention distillation: the student is the victim, trained on the clean sample with cross-entropy + the distance
       of attention maps and of hidden states to the teacher's.

    Deviation: rule, share and weights of the paper are not known to us; words are cut at a random letter, the maps are
    those of ``nad``, and the clean sample is the benchmark's, far smaller than the paper's 20 % of the training set.
    """

    name: ClassVar[str] = "mbtsad"
    version: ClassVar[int] = 3
    citation: ClassVar[str] = "Ding, Niu and Yi, ICTAI 2024, arXiv 2501.02754"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    copies: int = Field(4, ge=1, description="copies of the clean sample with split words")
    split: float = Field(0.5, ge=0, le=1, description="chance of a word to be split")
    beta: float = Field(10.0, ge=0, description="weight of the attention distance")
    states_weight: float = Field(1.0, ge=0, description="weight of the squared difference of the hidden states")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Retrain the teacher on split text, then distil."""
        from defenses.shared import losses

        rng = access.rng("token splitting")
        sets = [split_examples(access.clean, self.split, rng) for _ in range(self.copies)]
        text = sets[0]
        for more in sets[1:]:
            text = join(text, more)
        teacher = classifier.clone()
        notes = {"teacher": self.tune(teacher, access, text, seed=seeds.derive("teacher", access.seed))}
        distil = losses.attention_distillation(teacher.model, weight=self.beta, states_weight=self.states_weight)
        return Defended(classifier, {**notes, "tuning": self.tune(classifier, access, extra_loss=distil)})


def split_examples(examples: Examples, share: float, rng: np.random.Generator) -> Examples:
    """Return the examples with words cut in two, in every segment."""
    columns = (examples.inputs.texts, examples.inputs.pairs)
    texts, pairs = (None if column is None else tuple(split_words(t, share, rng) for t in column) for column in columns)
    assert texts is not None
    return Examples(Inputs(texts, pairs), examples.labels)


def split_words(text: str, share: float, rng: np.random.Generator) -> str:
    """Return a text in which each word of two letters or more is cut in two with a chance of ``share``."""
    words = []
    for word in text.split():
        if len(word) > 1 and rng.random() < share:
            at = int(rng.integers(1, len(word)))
            words += [word[:at], word[at:]]
        else:
            words.append(word)
    return " ".join(words)
