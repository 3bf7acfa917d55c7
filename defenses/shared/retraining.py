"""What training-time defenses share: they train a new classifier on what they trust of the suspicious training set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bench import learning
from bench.contracts import Classifier, Defense, Needs
from bench.contracts.examples import Examples

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Retraining(Defense):
    """A defender who receives poisoned data and the clean pre-trained encoder, and trains. Not a defense by itself."""

    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.TRAINING_SET, Needs.PRETRAINED})
    kind: ClassVar[Literal["purification", "training", "filter", "detection"]] = "training"


def trained(access: Access, examples: Examples, **options: Any) -> tuple[Classifier, dict[str, Any]]:
    """Return a new classifier trained with the victim's budget, and notes; ``options`` override the budget.

    No checkpoint is selected: the last one is taken, so that no poisoned validation set can leak in.
    """
    classifier = access.untrained()
    settings = {**access.budget.model_dump(), "seed": access.seed, **options}
    notes = learning.train(classifier, examples, **settings)
    return classifier, {name: value for name, value in notes.items() if name != "seconds"}


def filtered(access: Access, examples: Examples, suspicious: np.ndarray) -> tuple[Classifier, dict[str, Any]]:
    """Return a new classifier trained on the examples that are not suspicious (bool [n]), and notes.

    Raises:
        ValueError: nothing is left.
    """
    kept = np.flatnonzero(~suspicious)
    if not len(kept):
        raise ValueError("the filter leaves no training example")
    classifier, notes = trained(access, examples.take(kept))
    return classifier, {"removed": int(suspicious.sum()), "kept": len(kept), "training": notes}
