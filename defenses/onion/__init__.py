"""ONION: delete the words that make a text improbable."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from pydantic import Field

from bench import models
from bench.contracts import Classifier, Defended, Defense, Needs
from bench.contracts.examples import Inputs
from defenses.shared.filtering import columns_of, rebuilt

if TYPE_CHECKING:
    from bench.contracts.access import Access

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
Outliers = Callable[[Inputs], list[list[np.ndarray]]]


class Scorer(Protocol):
    """A language model."""

    def perplexities(self, texts: Sequence[str]) -> np.ndarray:
        """Return float64 [n]: exp of the mean loss a token."""


class Onion(Defense):
    """Deletes the words without which the perplexity of a text falls by more than a bar.

    Qi et al., EMNLP 2021 (arXiv 2011.10369). Needs clean examples and, for the ``n-gram`` scorer, plain text.

    1. s_i = PPL(x) - PPL(x without word i) for every word of x.
    2. All words with s_i > bar are deleted at once; the model answers on the rest. A text never becomes empty.

    The bar is a quantile of s_i on the clean sample: the lowest of a ladder of levels that passes the shared selection
    rule, which is the paper's accepted loss of accuracy. Deviations: the paper scores with GPT-2. The default scorer is
    an interpolated word trigram (Witten-Bell) of the task's plain text over English word frequencies of ``wordfreq``,
    so that nothing has to be downloaded; any causal language model can take its place by name. Words beyond the
    truncation length are left alone. Of pairs, both segments are cleaned.
    """

    name: ClassVar[str] = "onion"
    version: ClassVar[int] = 2
    citation: ClassVar[str] = "Qi et al., EMNLP 2021, arXiv 2011.10369"
    libraries: ClassVar[tuple[str, ...]] = ("wordfreq",)
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.UNLABELLED})
    purifies: ClassVar[bool] = False
    kind: ClassVar[Any] = "filter"

    scorer: str = Field(
        "n-gram", description="n-gram, or a causal language model: a folder, or <name on the Hub>@<40-hex commit>"
    )
    level: float | None = Field(
        None, ge=0, le=1, description="share of clean words scored below the bar; searched when not given"
    )

    def recipe(self) -> dict[str, Any]:
        """The plugin's recipe, with the fingerprint of a language model that is not built in."""
        own = super().recipe()
        return own if self.scorer == "n-gram" else {**own, "scorer": models.create(self.scorer).fingerprint()}

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Score the clean words and choose the bar."""
        scorer = self.language_model(classifier, access)
        longest = access.facts.max_length

        def scored(inputs: Inputs) -> list[list[np.ndarray]]:
            return [outliers(column, scorer, longest) for column in self.columns(inputs)]

        ordinary = np.concatenate([np.zeros(0), *(s for column in scored(access.clean.inputs) for s in column)])
        remembered = functools.lru_cache(maxsize=1)(scored)

        def build(level: float, find: Outliers = remembered) -> Cleaned:
            bar = float(np.quantile(ordinary, level)) if len(ordinary) else np.inf
            notes = {"level": level, "bar": bar, "scorer": self.scorer, "forward_passes": 1}
            return Cleaned(classifier, notes, outliers=find, bar=bar, onion=self)

        if self.level is not None:
            return build(self.level, scored)
        choice = access.choose(LEVELS, lambda level, labels: build(level), trains=False)
        final = build(choice.value, scored)
        final.notes.update(choice.notes())
        return final

    def columns(self, inputs: Inputs) -> list[Sequence[str]]:
        """Return the columns of text that are cleaned."""
        return columns_of(inputs)

    def put(self, inputs: Inputs, columns: list[list[str]]) -> Inputs:
        """Return inputs with other texts in the columns that are cleaned."""
        return rebuilt(columns)

    def language_model(self, classifier: Classifier, access: Access) -> Scorer:
        """Return the scorer."""
        from defenses.onion.word_models import CausalModel, Trigram

        if self.scorer == "n-gram":
            known = {text for column in columns_of(access.clean.inputs) for text in column}  # its scores set the bar
            return Trigram([text for c in columns_of(access.unlabelled) for text in c if text not in known])
        return CausalModel.load(self.scorer, device=str(next(classifier.model.parameters()).device))


@dataclass(kw_only=True)
class Cleaned(Defended):
    """Answers on inputs without their outlier words."""

    outliers: Outliers
    bar: float
    onion: Onion

    def predict(self, inputs: Inputs) -> Any:
        """Delete, then predict."""
        return super().predict(self.cleaned(inputs))

    def cleaned(self, inputs: Inputs) -> Inputs:
        """Return the inputs without their outlier words."""
        pairs = zip(self.onion.columns(inputs), self.outliers(inputs), strict=True)
        columns = [[without(t, s, self.bar) for t, s in zip(c, f, strict=True)] for c, f in pairs]
        return self.onion.put(inputs, columns)


def without(text: str, scores: np.ndarray, bar: float) -> str:
    """Return the text without the words that score above the bar; unchanged where that would be all or none."""
    words = text.split()
    kept = [word for i, word in enumerate(words) if i >= len(scores) or not scores[i] > bar]
    return " ".join(kept) if kept and len(kept) < len(words) else text


def outliers(texts: Sequence[str], scorer: Scorer, longest: int) -> list[np.ndarray]:
    """Return s_i for the leading words of every text; none for texts of one word. All variants are scored together."""
    variants: list[str] = []
    counts = []
    for text in texts:
        words = text.split()
        n = min(len(words), longest) if len(words) > 1 else 0
        counts.append(n)
        if n:
            variants.append(" ".join(words))
            variants += [" ".join(words[:i] + words[i + 1 :]) for i in range(n)]
    perplexities = scorer.perplexities(variants)
    scores, at = [], 0
    for n in counts:
        scores.append(perplexities[at] - perplexities[at + 1 : at + 1 + n] if n else np.zeros(0))
        at += n + 1 if n else 0
    return scores
