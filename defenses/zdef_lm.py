"""Z-Def on instruction data: words that predict how a response begins too well are spurious."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench.contracts import GENERATION, Defended, IntArray, Kind
from defenses.shared.retraining import filtered
from defenses.zdef import ZDef, features

if TYPE_CHECKING:
    from bench.contracts.access import Access


class ZDefLm(ZDef):
    """Drops the training examples with a word that predicts how their response begins too well, and retrains.

    After He et al., EMNLP 2023 (arXiv 2305.11596), whose form for classifiers is ``zdef``. Needs the training set and
    the clean pre-trained weights.

    1. The label of an example is how its response begins: its first words, where enough responses begin with them;
       all others have one label in common, which has no outliers.
    2. For every feature w of prompts and label y the z-score of ``zdef``; features whose z lies more than a number of
       standard deviations above the mean of all z are outliers.
    3. Drop the examples of label y with an outlier of y; train a new model on the rest.

    Deviations from the paper: beginnings of responses take the place of labels. The others are those of ``zdef``. A
    payload that is not at the beginning of a response cannot be seen.
    """

    name: ClassVar[str] = "zdef-lm"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "after He et al., EMNLP 2023, arXiv 2305.11596"

    opening: int = Field(3, ge=1, description="words of a response that are its beginning")
    least: float = Field(0.02, gt=0, le=1, description="share of the responses that a beginning has at least")

    def defend(self, classifier: Any, access: Access) -> Defended:
        """Filter and retrain."""
        examples = access.training_set
        labels, names = openings(examples.references, self.opening, self.least)
        outliers = self.outliers(replace(examples, labels=labels))
        outliers.pop(len(names), None)
        rows = zip(features(examples, self.longest), labels, strict=True)
        suspicious = np.array([not outliers.get(int(label), set()).isdisjoint(own) for own, label in rows])
        model, notes = filtered(access, examples, suspicious)
        listed = {names[label]: sorted(" ".join(words) for words in runs) for label, runs in outliers.items()}
        return Defended(model, {"outliers": listed, "openings": len(names), **notes})


def openings(responses: Sequence[str], words: int, least: float) -> tuple[IntArray, list[str]]:
    """Return how each response begins, and the beginnings.

    Args:
        responses: n responses.
        words: of a beginning.
        least: share of the responses that begin alike, below which a beginning is not told apart.

    Returns:
        int64 [n]: the number of the beginning; of all others, the number of beginnings. And the beginnings.
    """
    first = [" ".join(text.lower().split()[:words]) for text in responses]
    counts = Counter(first)
    names = sorted(name for name, count in counts.items() if count >= max(2, least * len(first)))
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers.get(name, len(names)) for name in first], dtype=np.int64), names
