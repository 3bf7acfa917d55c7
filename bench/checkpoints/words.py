"""Words whose embeddings moved more than their frequency explains: the scores of E-PUR, as a list for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.plugins import registry

if TYPE_CHECKING:
    from bench.contracts import Classifier
    from bench.models.tensors import LazyWeights

SCORER = "e-pur"  # the plugin that scores words


@dataclass(frozen=True)
class Word:
    """One vocabulary entry.

    Attributes:
        token: as in the vocabulary of the tokenizer.
        row: its number.
        score: drift over log frequency.
        distance: how far the score lies above the median of all that moved, in median absolute deviations.
        drift: distance of its embedding from the pre-trained one.
    """

    token: str
    row: int
    score: float
    distance: float
    drift: float

    def json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def suspicious(classifier: Classifier, pretrained: LazyWeights, *, top: int) -> list[Word]:
    """Return the words with the highest scores, highest first; an empty list if no embedding moved."""
    scorer: Any = registry.defenses.create(SCORER)
    table = pretrained[embedding_name(classifier.model)]
    scores: np.ndarray = scorer.scores(classifier, table)
    moved = scores[scores > 0]
    if not len(moved):
        return []
    centre = float(np.median(moved))
    spread = float(np.median(np.abs(moved - centre))) or float("inf")
    ours = classifier.model.get_input_embeddings().weight.detach().cpu()
    rows = [int(row) for row in np.argsort(-scores, kind="stable")[:top] if scores[row] > 0]
    tokens = classifier.tokenizer.convert_ids_to_tokens(rows)
    return [
        Word(str(token), row, float(scores[row]), float(scores[row] - centre) / spread, _distance(ours, table, row))
        for token, row in zip(tokens, rows, strict=True)
    ]


def embedding_name(model: Any) -> str:
    """Return the name of the word-embedding table."""
    table = model.get_input_embeddings().weight
    name: str = next(name for name, parameter in model.named_parameters() if parameter is table)
    return name


def drift_left(words: list[Word], model: Any, pretrained: LazyWeights) -> list[float]:
    """Return how much of the drift of each word is left in another model, percent."""
    theirs = pretrained[embedding_name(model)]
    ours = model.get_input_embeddings().weight.detach().cpu()
    return [100.0 * _distance(ours, theirs, word.row) / word.drift for word in words]


def _distance(ours: Any, theirs: Any, row: int) -> float:
    return float((ours[row].double() - theirs[row].double()).norm())
