"""The training loop of defenses whose objective is more than the cross-entropy of one model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.contracts import Classifier
from bench.contracts.examples import Examples
from defenses.shared.forwards import Batch, arithmetic, device_of, padded, sample_batches

Loss = Callable[[Batch, torch.Tensor], torch.Tensor]


def descend(
    groups: Iterable[Mapping[str, Any]],
    classifier: Classifier,
    examples: Examples,
    *,
    loss: Loss,
    epochs: int,
    batch_size: int,
    seed: int,
    warmup: float = 0.1,
    weight_decay: float = 0.0,
    max_grad_norm: float = 1.0,
    after_backward: Callable[[float, float], object] | None = None,
) -> dict[str, Any]:
    """Minimise a loss with AdamW, a linear schedule with warm-up and gradient clipping; return notes.

    Args:
        groups: of parameters, each ``{"params": [...], "lr": peak}``.
        classifier: whose tokenizer encodes the examples; it is left in evaluation mode.
        examples: n labelled examples.
        loss: of a batch and its labels.
        epochs: passes over the examples.
        batch_size: examples a step.
        seed: of the order and of dropout; the global state of torch is as before afterwards.
        warmup: share of the steps with rising learning rate.
        weight_decay: decoupled.
        max_grad_norm: gradients are clipped to this norm.
        after_backward: may change gradients; called with the loss and the share of the training that is over.
    """
    model, rng = classifier.model, np.random.default_rng(seed)
    plan = [rows for _ in range(epochs) for rows in sample_batches(len(examples), batch_size, rng)]
    total, rising = len(plan), max(1, int(warmup * len(plan)))
    device = device_of(model)
    found: list[torch.Tensor] = []
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        optimiser = torch.optim.AdamW([dict(group) for group in groups], weight_decay=weight_decay, fused=True)
        weights = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min((step + 1) / rising, (total - step) / max(1, total - rising))
        )
        model.train()
        for step, rows in enumerate(plan):
            gold = torch.from_numpy(examples.labels[rows]).to(device)
            with arithmetic(classifier):
                value = loss(padded(classifier, examples.inputs, rows), gold)
            value.backward()
            if after_backward is not None:
                after_backward(float(value.detach()), step / total)
            nn.utils.clip_grad_norm_(weights, max_grad_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            schedule.step()
            found.append(value.detach())
    model.eval()
    losses = torch.stack(found).tolist() if found else []
    tenth = max(1, len(losses) // 10)
    ends = (float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))) if losses else (None, None)
    return {"steps": total, "first_loss": ends[0], "last_loss": ends[1]}
