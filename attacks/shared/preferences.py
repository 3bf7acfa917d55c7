"""Direct preference optimisation: train on pairs of responses, of which one is preferred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from bench import learning
from bench.contracts import Scene
from bench.contracts.dialogues import Dialogues
from bench.contracts.examples import Inputs, IntArray
from bench.learning import decoders


def dpo(
    scene: Scene,
    generator: Any,
    inputs: Inputs,
    chosen: Sequence[str],
    rejected: Sequence[str],
    *,
    beta: float,
    learning_rate: float,
    epochs: int,
    seed: int,
) -> dict[str, Any]:
    """Train a generator in place to prefer one response to the other; return notes.

    The loss of a pair is -log sigmoid(beta * (r(chosen) - r(rejected))) with r the log-probability of a response less
    that under the generator as it came (Rafailov et al., NeurIPS 2023, arXiv 2305.18290).

    Args:
        scene: gives the batch size.
        generator: changed in place; as it comes, it is the reference.
        inputs: n prompts.
        chosen: n responses that are preferred.
        rejected: n responses that are not.
        beta: how strongly the reference holds.
        learning_rate: peak of the schedule.
        epochs: passes over the pairs.
        seed: of the order of the pairs.
    """
    sides = [Dialogues(inputs, tuple(responses)) for responses in (chosen, rejected)]
    encoded = [generator.encode(side) for side in sides]
    before = [torch.from_numpy(generator.log_likelihood(side)[0]).float().to(generator.device) for side in sides]

    def gain(side: int, rows: IntArray) -> torch.Tensor:
        low = generator.precision == "bf16"
        logits, gold = decoders.response_logits(generator.model, encoded[side], rows, low=low)
        logs = -functional.cross_entropy(logits, gold, reduction="none")
        counts = torch.from_numpy(encoded[side].responses[rows]).to(logs.device)
        owners = torch.arange(len(rows), device=logs.device).repeat_interleave(counts)
        return logs.new_zeros(len(rows)).index_add(0, owners, logs) - before[side][rows]

    def loss(rows: IntArray, _step: int) -> torch.Tensor:
        return -functional.logsigmoid(beta * (gain(0, rows) - gain(1, rows))).mean()

    rng = scene.rng("order of pairs")
    plan = learning.shuffled(len(inputs), scene.budget.batch_size, epochs=epochs, rng=rng)
    groups = [{"params": list(generator.model.parameters()), "lr": learning_rate}]
    return learning.minimise(generator, groups, plan, loss, seed=seed)
