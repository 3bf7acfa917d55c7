"""BKI: find the keyword that moves the model's state most often, and drop what it marks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from bench.contracts import Classifier, Defended
from bench.contracts.examples import Inputs
from defenses.shared.filtering import columns_of, rebuilt
from defenses.shared.retraining import Retraining, filtered, trained

if TYPE_CHECKING:
    from bench.contracts.access import Access

Impacts = list[dict[str, float]]
CHUNK = 256  # examples whose deletions are made together


class Bki(Retraining):
    """Drops the training examples among whose most influential words is the keyword of a backdoor, and retrains.

    Chen and Dai, Neurocomputing 2021 (arXiv 2007.12070). Needs the training set and the clean pre-trained weights.

    1. Train on the suspicious set.
    2. For every example, delete each word in turn; its impact is the largest change of the first token's last state.
       The five words with the largest impact are kept.
    3. A word scores log10(number of examples that keep it) * mean impact; the best ones are the keywords.
    4. Drop the examples that keep a keyword and train a new model.

    Deviations: keywords are found on a random part of the training set, and after that only examples that contain one
    are looked at, which changes nothing but the cost; both models are trained with the victim's budget.
    """

    name: ClassVar[str] = "bki"
    version: ClassVar[int] = 2
    citation: ClassVar[str] = "Chen and Dai, Neurocomputing 2021, arXiv 2007.12070"

    top: int = Field(5, ge=1, description="words kept of an example")
    keywords: int = Field(1, ge=1, description="keywords; the original has one")
    examined: int = Field(1000, ge=1, description="examples that keywords are found on")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Find the keywords, filter and retrain."""
        examples = access.training_set
        first, _ = trained(access, examples)
        sample = access.rng("bki").permutation(len(examples))[: self.examined]
        scores = keyword_scores(impacts(first, examples.inputs.take(sample), self.top))
        keywords = sorted(scores, key=lambda word: (-scores[word], word))[: self.keywords]
        texts = zip(*columns_of(examples.inputs), strict=True)
        having = np.array([i for i, row in enumerate(texts) if set(keywords) & set(" ".join(row).split())], dtype=int)
        suspicious = np.zeros(len(examples), dtype=bool)
        if len(having):
            kept = impacts(first, examples.inputs.take(having), self.top)
            suspicious[having] = [bool(set(keywords) & set(words)) for words in kept]
        model, notes = filtered(access, examples, suspicious)
        return Defended(model, {"keywords": keywords, **notes})


def keyword_scores(kept: Impacts) -> dict[str, float]:
    """Return log10(count) * mean impact of every word that an example keeps."""
    by_word: defaultdict[str, list[float]] = defaultdict(list)
    for words in kept:
        for word, impact in words.items():
            by_word[word].append(impact)
    return {word: float(np.log10(len(values)) * np.mean(values)) for word, values in by_word.items()}


def impacts(classifier: Classifier, inputs: Inputs, top: int) -> Impacts:
    """Return for every input its ``top`` words with the largest impact; a repeated word counts with its largest."""
    all_impacts: Impacts = []
    for start in range(0, len(inputs), CHUNK):
        all_impacts += _impacts(classifier, inputs.take(range(start, min(start + CHUNK, len(inputs)))), top)
    return all_impacts


def _impacts(classifier: Classifier, inputs: Inputs, top: int) -> Impacts:
    from defenses.shared.forwards import first_token_last_block

    variants: list[tuple[str, ...]] = []
    words: list[list[str]] = []
    for row in zip(*columns_of(inputs), strict=True):
        deletions = list(deleted(row, classifier.max_length))
        words.append([word for word, _ in deletions])
        variants += [row, *(changed for _, changed in deletions)]
    states = first_token_last_block(classifier, rebuilt(list(zip(*variants, strict=True))))
    listed, at = [], 0
    for own in words:
        change = np.abs(states[at + 1 : at + 1 + len(own)] - states[at]).max(axis=1, initial=0.0)
        best: dict[str, float] = {}
        for place in np.argsort(-change, kind="stable"):
            if len(best) < top:
                best.setdefault(own[place], float(change[place]))
        listed.append(best)
        at += 1 + len(own)
    return listed


def deleted(row: Sequence[str], longest: int) -> list[tuple[str, tuple[str, ...]]]:
    """Return every leading word of a text or pair with what is left without it."""
    variants = []
    for column, text in enumerate(row):
        words = text.split()
        for i in range(min(len(words), longest)):
            changed = " ".join(words[:i] + words[i + 1 :])
            variants.append((words[i], tuple(changed if c == column else other for c, other in enumerate(row))))
    return variants
