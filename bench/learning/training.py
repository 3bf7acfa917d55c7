"""Train a classifier in place."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bench.examples import Examples, IntArray
from bench.learning import hardware
from bench.learning.batches import by_length, collate
from bench.learning.classifier import Classifier
from bench.learning.tokens import Encoded, encode

Batch = dict[str, torch.Tensor]
ExtraLoss = Callable[[Batch, torch.Tensor, nn.Module], torch.Tensor]
AfterStep = Callable[[nn.Module, int], object]


def train(
    classifier: Classifier,
    examples: Examples,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    warmup: float = 0.1,
    weight_decay: float = 0.0,
    max_grad_norm: float = 1.0,
    precision: str = "auto",
    extra_loss: ExtraLoss | None = None,
    after_step: AfterStep | None = None,
    trainable: Callable[[str], bool] | None = None,
    micro_batch: int | None = None,
    max_steps: int | None = None,
) -> dict[str, Any]:
    """Train in place with AdamW, a linear schedule with warm-up and gradient clipping; return notes.

    Args:
        classifier: its model is changed and left in evaluation mode.
        examples: n labelled examples.
        epochs: passes over them.
        learning_rate: peak of the schedule.
        batch_size: examples a step.
        seed: of the order and of dropout; the global state of torch is as before afterwards.
        warmup: share of the steps with rising learning rate.
        weight_decay: decoupled, on every trained parameter.
        max_grad_norm: gradients are clipped to this norm.
        precision: ``auto``, ``bf16`` or ``fp32``.
        extra_loss: called with the batch, its logits and the model; its value is added to the loss.
        after_step: called with the model and the number of the step after each step.
        trainable: which parameters, by name, are trained; all by default.
        micro_batch: examples at once; the gradient of a batch is accumulated over them. All by default.
        max_steps: stop after so many steps; the schedule is as without.
    """
    started = time.perf_counter()
    model, device = classifier.model, classifier.device
    arithmetic = hardware.precision(device, precision)
    encoded = encode(classifier.tokenizer, examples.inputs, classifier.max_length)
    rng = np.random.default_rng(seed)
    plan = [rows for _ in range(epochs) for rows in by_length(encoded.lengths, batch_size, rng)]
    total = len(plan)
    plan = plan[:max_steps]
    frozen = [p for name, p in model.named_parameters() if p.requires_grad and trainable and not trainable(name)]
    for parameter in frozen:
        parameter.requires_grad_(False)
    weights = [p for p in model.parameters() if p.requires_grad]
    notes: dict[str, Any] = {
        "steps": len(plan),
        "device": device,
        "precision": arithmetic,
        "tokens": 0,
        "out_of_memory": 0,
    }
    losses: list[float] = []
    micro = micro_batch or batch_size
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    try:
        rates = {"learning_rate": learning_rate, "weight_decay": weight_decay, "max_grad_norm": max_grad_norm}
        with torch.random.fork_rng(devices=devices), classifier.optimiser(weights, **rates) as optimiser:
            torch.manual_seed(seed)
            model.train()
            for step, rows in enumerate(plan):
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate * schedule(step, total, warmup)
                while True:
                    try:
                        loss = _gradients(classifier, encoded, examples.labels, rows, micro, arithmetic, extra_loss)
                        break
                    except torch.OutOfMemoryError:
                        if micro <= 1:
                            raise
                        micro = max(1, min(micro, len(rows)) // 2)
                        notes["out_of_memory"] += 1
                        model.zero_grad(set_to_none=True)
                nn.utils.clip_grad_norm_(weights, max_grad_norm)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                losses.append(loss)
                notes["tokens"] += int(encoded.lengths[rows].sum())
                if after_step is not None:
                    with torch.no_grad():
                        after_step(model, step)
    finally:
        model.eval()
        model.zero_grad(set_to_none=True)
        for parameter in frozen:
            parameter.requires_grad_(True)
    tenth = max(1, len(losses) // 10)
    return {
        **notes,
        "micro_batch": micro,
        "seconds": time.perf_counter() - started,
        "first_loss": float(np.mean(losses[:tenth])) if losses else None,
        "last_loss": float(np.mean(losses[-tenth:])) if losses else None,
    }


def schedule(step: int, total: int, warmup: float) -> float:
    """Return the share of the peak learning rate at a step: linear up, then linear down to 0 behind the last step."""
    rising = int(warmup * total)
    if step < rising:
        return (step + 1) / rising
    return (total - step) / max(1, total - rising)


def _gradients(
    classifier: Classifier,
    encoded: Encoded,
    labels: IntArray,
    rows: IntArray,
    micro: int,
    precision: str,
    extra_loss: ExtraLoss | None,
) -> float:
    """Add the gradient of the batch's mean loss; return that loss."""
    loss = 0.0
    for start in range(0, len(rows), micro):
        part = rows[start : start + micro]
        batch = collate(encoded, part, classifier.model.config.pad_token_id or 0)
        batch = {name: tensor.to(classifier.device) for name, tensor in batch.items()}
        gold = torch.from_numpy(labels[part]).to(classifier.device)
        with torch.autocast(classifier.device, torch.bfloat16, enabled=precision == "bf16"):
            logits = classifier.model(**batch).logits
        value = functional.cross_entropy(logits.float(), gold)
        if extra_loss is not None:
            value = value + extra_loss({**batch, "labels": gold}, logits.float(), classifier.model)
        value = value * (len(part) / len(rows))
        value.backward()  # type: ignore[no-untyped-call]
        loss += float(value.detach())
    return loss
