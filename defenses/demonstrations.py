"""Clean examples as witnesses: the nearest ones vote beside the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench import learning
from bench.contracts import Classifier, Defended, Defense, Examples, FloatArray, Needs, Predictions
from bench.contracts.examples import Inputs, IntArray

if TYPE_CHECKING:
    from bench.contracts.access import Access

SHARES = tuple(step / 20 for step in range(21))


class Demonstrations(Defense):
    """Mixes the model's answer with a vote of the k clean examples that are nearest to the input.

    After the defensive demonstrations of Mo et al., Findings of NAACL 2025 (arXiv 2311.09763). Needs clean examples and
    the clean pre-trained weights, which embed texts for retrieval.

    1. Every input and clean example becomes the mean of the last states of the clean pre-trained encoder.
    2. The k clean examples with the highest cosine similarity vote with softmax(similarity / temperature).
    3. The answer is ``share * model + (1 - share) * vote``; the share is the smallest of 0, 0.05, ..., 1 that passes
       the shared selection rule.

    How it differs: the paper puts k retrieved demonstrations before the query of a language model that learns in
    context. An encoder classifier does not read demonstrations, so here they act on the output. The access is the same
    (queries and a clean pool), but it is another defense: retrieval-augmented prediction, in the manner of nearest-
    neighbour interpolation. With a share of 0 it is plain nearest neighbours, with 1 the undefended model.
    """

    name: ClassVar[str] = "demonstrations"
    version: ClassVar[int] = 3
    citation: ClassVar[str] = "Mo et al., Findings of NAACL 2025, arXiv 2311.09763"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.PRETRAINED})
    purifies: ClassVar[bool] = False
    kind: ClassVar[Any] = "filter"

    k: int = Field(5, ge=1, description="clean examples that vote")
    temperature: float = Field(0.1, gt=0, description="of the votes: lower listens to the nearest only")
    share: float | None = Field(None, ge=0, le=1, description="weight of the model; searched when not given")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Embed the clean sample and choose the share."""
        from defenses.shared.forwards import sentence_vectors

        retriever = classifier.clone()
        learning.mix_into(retriever, access.pretrained, reserve_ratio=0.0, seed=0)

        def build(share: float, labels: Examples) -> Voting:
            notes = {"share": share, "forward_passes": 2}
            fields = {"labels": labels.labels, "k": self.k, "temperature": self.temperature, "share": share}
            pool = sentence_vectors(retriever, labels.inputs)
            return Voting(classifier, notes, retriever=retriever, pool=pool, **fields)

        if self.share is not None:
            return build(self.share, access.clean)
        choice = access.choose(SHARES, build)
        choice.defended.notes.update(choice.notes())
        return choice.defended


@dataclass(kw_only=True)
class Voting(Defended):
    """Mixes the classifier's probabilities with those of the nearest clean examples."""

    retriever: Classifier
    pool: FloatArray
    labels: IntArray
    k: int
    temperature: float
    share: float

    def predict(self, inputs: Inputs) -> Predictions:
        """Return the mixed answers."""
        from defenses.shared.forwards import sentence_vectors

        plain = super().predict(inputs)
        classes = plain.probabilities.shape[1]
        votes = nearest(
            sentence_vectors(self.retriever, inputs), self.pool, self.labels, classes, self.k, self.temperature
        )
        mixed = (self.share * plain.probabilities + (1 - self.share) * votes).astype(np.float32)
        return Predictions(mixed.argmax(axis=-1).astype(np.int64), mixed, plain.rejected)


def nearest(
    vectors: FloatArray, pool: FloatArray, labels: IntArray, classes: int, k: int, temperature: float
) -> FloatArray:
    """Return the votes of the k most similar pool examples, float32 [n, classes]; rows sum to 1."""
    similarity = vectors @ pool.T
    chosen = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    near = np.take_along_axis(similarity, chosen, axis=1)
    weights = np.exp((near - near[:, :1]) / temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    ballots = np.eye(classes)[labels[chosen]]  # [n, k, classes]
    votes: FloatArray = (weights[..., None] * ballots).sum(axis=1).astype(np.float32)
    return votes
