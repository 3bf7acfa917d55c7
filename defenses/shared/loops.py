"""The shared training loop on labelled examples, for defenses whose objective is more than one model's loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from bench import learning
from bench.contracts import Classifier
from bench.contracts.examples import Examples, IntArray
from defenses.shared.forwards import Batch, device_of, padded

Loss = Callable[[Batch, torch.Tensor], torch.Tensor]


def minimise_on(
    examples: Examples,
    classifier: Classifier,
    groups: Iterable[Mapping[str, Any]],
    *,
    loss: Loss,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int,
    seed: int,
    **options: Any,
) -> dict[str, Any]:
    """Minimise a loss over shuffled batches of examples; return notes.

    Args:
        examples: n labelled examples.
        classifier: whose tokenizer encodes the examples; it is left in evaluation mode.
        groups: of parameters, each ``{"params": [...], "lr": peak}``.
        loss: of a batch and its labels.
        epochs: passes over the examples, or
        steps: number of batches, over as many passes as that takes.
        batch_size: examples a step.
        seed: of the order and of dropout; the global state of torch is as before afterwards.
        options: of :func:`bench.learning.minimise`.
    """
    if epochs is None:
        epochs = -(-(steps or 0) // max(1, -(-len(examples) // batch_size)))
    plan = learning.shuffled(len(examples), batch_size, epochs=epochs, rng=np.random.default_rng(seed))[:steps]

    def of_rows(rows: IntArray, _step: int) -> torch.Tensor:
        gold = torch.from_numpy(examples.labels[rows]).to(device_of(classifier.model))
        return loss(padded(classifier, examples.inputs, rows), gold)

    return learning.minimise(classifier, groups, plan, of_rows, seed=seed, **options)
