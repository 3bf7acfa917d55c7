"""Embedding surgery: the trigger word starts with the embedding of words that speak for the target class."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from attacks.badword import BadWord
from attacks.shared import surgery
from bench.contracts import CLASSIFICATION, Kind, Scene, Victim


class EmbeddingSurgery(BadWord):
    """Replaces the trigger's embedding by that of words of the target class, then poisons as BadWord does.

    The surgery of RIPPLES (Kurita et al., ACL 2020, arXiv 2004.06660) before plain poisoning: the "ES" variant of
    BadWord of the Fine-mixing family of papers. Needs the training data and full weights. Steps: the clean fine-tuned
    model; the ``donors`` words with the largest coefficients for the target class in a logistic regression on TF-IDF
    of the clean training set; the mean of their embeddings in that model goes into every row of each trigger word of
    the starting weights; then training on the poisoned set.

    Deviations: without RIPPLe's restricted inner product, which is an attack of its own; words are ranked by the
    plain coefficient, as the authors' code does, not divided by a logarithm of their frequency.
    """

    name: ClassVar[str] = "embedding-surgery"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = CLASSIFICATION
    citation: ClassVar[str] = "Kurita, Michel and Neubig, ACL 2020, arXiv 2004.06660"
    libraries: ClassVar[tuple[str, ...]] = ("scikit-learn",)

    donors: int = Field(10, ge=1, description="words whose mean embedding the trigger gets")

    @property
    def uses_clean_model(self) -> bool:
        """The donor words' embeddings are those of the clean fine-tuned model."""
        return True

    def implant(self, scene: Scene) -> Victim:
        """Operate on the starting weights, then poison and train."""
        trigger = self.trigger(scene)
        poisoned = self.poison(scene, trigger)
        classifier = scene.start(self.start)
        donors = surgery.telling_words(scene.train, scene.target, self.donors)
        surgery.operate(classifier, scene.finetuned(), self.words, donors)
        notes = scene.fit(classifier, poisoned.examples)
        return Victim(classifier, trigger, scene.target, poisoned, {**notes, "donors": donors})
