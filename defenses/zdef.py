"""Z-Def: words that predict a label too well are spurious."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from bench.contracts import Classifier, Defended
from bench.contracts.examples import Examples
from defenses.shared.filtering import columns_of
from defenses.shared.retraining import Retraining, filtered

if TYPE_CHECKING:
    from bench.contracts.access import Access

ORIGINAL_SIZE = 6920  # training examples of the data set that 18 deviations belong to
Feature = tuple[str, ...]


class ZDef(Retraining):
    """Drops the training examples with a feature that is correlated with their label beyond all others, and retrains.

    He et al., EMNLP 2023 (arXiv 2305.11596). Needs the training set and the clean pre-trained weights.

    1. For every feature w and label y: ``z = (p(y | w) - p(y)) / sqrt(p(y) (1 - p(y)) / n_w)`` with n_w the examples
       that have w.
    2. Features whose z lies more than a number of standard deviations above the mean of all z are outliers.
    3. Drop the examples of label y with an outlier of y; train a new model on the rest.

    Deviations: features are words and, if wanted, runs of words; the paper also has paths of syntax trees, which need a
    parser. Its number of deviations is not known for certain; because z of one and the same correlation grows with
    the square root of the examples, the default belongs to 6,920 examples and is scaled to the size of the set.
    """

    name: ClassVar[str] = "zdef"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = "He et al., EMNLP 2023, arXiv 2305.11596"

    deviations: float = Field(18.0, gt=0, description="standard deviations above the mean, for 6,920 examples")
    longest: int = Field(1, ge=1, le=4, description="words of the longest feature")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Filter and retrain."""
        examples = access.training_set
        outliers = self.outliers(examples)
        rows = zip(features(examples, self.longest), examples.labels, strict=True)
        suspicious = np.array([not outliers.get(int(label), set()).isdisjoint(own) for own, label in rows])
        model, notes = filtered(access, examples, suspicious)
        listed = {str(label): sorted(" ".join(words) for words in runs) for label, runs in outliers.items()}
        return Defended(model, {"outliers": listed, **notes})

    def outliers(self, examples: Examples) -> dict[int, set[Feature]]:
        """Return the outlier features of every label."""
        scores = z_scores(examples, self.longest)
        values = np.array(list(scores.values()))
        bar = values.mean() + self.deviations * (len(examples) / ORIGINAL_SIZE) ** 0.5 * values.std()
        by_label: dict[int, set[Feature]] = {}
        for (feature, label), score in scores.items():
            if score > bar:
                by_label.setdefault(label, set()).add(feature)
        return by_label


def features(examples: Examples, longest: int) -> list[set[Feature]]:
    """Return the different lower-cased runs of up to ``longest`` words of every example."""
    runs = []
    for row in zip(*columns_of(examples.inputs), strict=True):
        words = [text.lower().split() for text in row]
        runs.append({tuple(w[i : i + n]) for w in words for n in range(1, longest + 1) for i in range(len(w) - n + 1)})
    return runs


def z_scores(examples: Examples, longest: int) -> dict[tuple[Feature, int], float]:
    """Return z of every feature with every label that occurs."""
    own = features(examples, longest)
    counts = Counter(feature for runs in own for feature in runs)
    together = Counter(
        (feature, int(label)) for runs, label in zip(own, examples.labels, strict=True) for feature in runs
    )
    scores = {}
    for label, size in zip(*np.unique(examples.labels, return_counts=True), strict=True):
        prior = size / len(examples)
        spread = max((prior * (1 - prior)) ** 0.5, 1e-12)
        for feature, n in counts.items():
            scores[feature, int(label)] = (together[feature, int(label)] / n - prior) * n**0.5 / spread
    return scores
