"""STRIP: a triggered input keeps its label however its words are replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench.contracts import Classifier, Defended, Defense, Needs, Predictions, softmax
from bench.contracts.examples import Examples, Inputs
from defenses.shared.filtering import Screened, columns_of, low_quantile, rebuilt

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Strip(Defense):
    """Rejects inputs whose prediction stays certain while a share of their words is replaced.

    Gao et al., IEEE TDSC 2022 (arXiv 1911.10312), the text form. Needs clean examples.

    1. Of every input, N copies are made: a share of its words, at random places, gives way to the words with the
       highest TF-IDF of a random clean example of another class than the predicted one.
    2. The score is the mean entropy (nats) of the model's answers over the N copies of that input.
    3. The threshold is a quantile of the scores of the clean labels' inputs: the share of clean inputs that may be
       rejected. Inputs below it are rejected.

    Deviation: N and the share differ among implementations (5 to 20; 0.05 to 0.7); they are fields. Clean data cannot
    tell which share suits an unknown trigger, so it is fixed and not searched.
    """

    name: ClassVar[str] = "strip"
    version: ClassVar[int] = 2
    citation: ClassVar[str] = "Gao et al., IEEE TDSC 2022, arXiv 1911.10312"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})
    purifies: ClassVar[bool] = False
    kind: ClassVar[Any] = "filter"

    copies: int = Field(10, ge=1, description="perturbed copies of an input (N)")
    ratio: float = Field(0.5, gt=0, le=1, description="share of the words that is replaced")
    frr: float = Field(0.05, ge=0, lt=1, description="share of clean inputs that may be rejected")
    threshold: float | None = Field(None, description="entropy below which an input is rejected; from frr if not given")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Measure the entropies of the clean inputs and set the threshold."""
        sources = Sources(access.clean)

        def score(inputs: Inputs, verdicts: Predictions) -> np.ndarray:
            rng = access.rng("strip")
            mixed = perturbed(inputs, verdicts.labels, sources, copies=self.copies, ratio=self.ratio, rng=rng)
            return mean_entropy(softmax(classifier.logits(mixed)), self.copies)

        threshold = self.threshold
        if threshold is None:
            inputs = access.clean.inputs
            threshold = low_quantile(score(inputs, Defended(classifier).predict(inputs)), self.frr)
        notes = {"threshold": threshold, "forward_passes": self.copies + 1}
        return Screened(classifier=classifier, notes=notes, score=score, threshold=threshold)


class Sources:
    """The words of every clean example by TF-IDF, highest first, and the examples of every class but one."""

    def __init__(self, clean: Examples) -> None:
        documents = [" ".join(row).split() for row in zip(*columns_of(clean.inputs), strict=True)]
        spread = Counter(word for words in documents for word in set(words))
        self.words = [ranked(words, spread, len(documents)) for words in documents]
        self.labels = clean.labels
        self.full = np.array([len(words) > 0 for words in documents])

    def others(self, label: int) -> np.ndarray:
        """Return the rows of other classes; all rows where there are none."""
        rows = np.flatnonzero((self.labels != label) & self.full)
        return rows if len(rows) else np.flatnonzero(self.full)


def ranked(words: Sequence[str], spread: Counter[str], documents: int) -> list[str]:
    """Return the different words of a document by tf * (ln((1 + n) / (1 + df)) + 1), highest first."""
    scores = {w: c * (np.log((1 + documents) / (1 + spread[w])) + 1) for w, c in Counter(words).items()}
    return sorted(scores, key=lambda word: (-scores[word], word))


def perturbed(
    inputs: Inputs, labels: np.ndarray, sources: Sources, *, copies: int, ratio: float, rng: np.random.Generator
) -> Inputs:
    """Return ``copies`` perturbed variants of every input, the variants of one input next to each other."""
    pools = {int(label): sources.others(int(label)) for label in np.unique(labels)}
    rows: list[list[str]] = []
    for texts, label in zip(zip(*columns_of(inputs), strict=True), labels, strict=True):
        split = [text.split() for text in texts]
        for source in rng.choice(pools[int(label)], size=copies):
            rows.append([replaced(words, sources.words[source], ratio, rng) for words in split])
    return rebuilt(list(zip(*rows, strict=True)) if rows else [()] * len(columns_of(inputs)))


def replaced(words: Sequence[str], fillers: Sequence[str], ratio: float, rng: np.random.Generator) -> str:
    """Return the words with a share of them, at least one, replaced by the leading fillers."""
    if not words:
        return ""
    count = max(1, round(ratio * len(words)))
    changed = list(words)
    for i, place in enumerate(rng.permutation(len(words))[:count]):
        changed[place] = fillers[i % len(fillers)]
    return " ".join(changed)


def mean_entropy(probabilities: np.ndarray, copies: int) -> np.ndarray:
    """Return the mean entropy in nats over the copies of each input: [n * copies, classes] -> [n]."""
    from scipy.special import entr

    entropies: np.ndarray = entr(probabilities.astype(np.float64)).sum(axis=1)
    return entropies.reshape(-1, copies).mean(axis=1)
