"""Train a classifier in place."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bench.contracts.examples import Examples, IntArray
from bench.learning import hardware, packed
from bench.learning.batches import by_length, collate
from bench.learning.classifier import Classifier
from bench.learning.tokens import Encoded, encode
from bench.learning.vocabulary import Table, used_words, whole_table

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
    rates = [learning_rate * schedule(step, total, warmup) for step in range(len(plan))]
    hooked = extra_loss is not None or after_step is not None
    micro, out_of_memory, losses = micro_batch or batch_size, 0, []
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    try:
        with (
            torch.random.fork_rng(devices=devices),
            whole_table(model) if hooked else used_words(model, encoded, decay=_decay(rates, weight_decay)) as table,
            classifier.optimiser(
                table.weights, learning_rate=learning_rate, weight_decay=weight_decay, max_grad_norm=max_grad_norm
            ) as optimiser,
        ):
            torch.manual_seed(seed)
            run = _Run(classifier, encoded, examples.labels, arithmetic, extra_loss, table, packed.Noise(seed))
            model.train()
            for step, rows in enumerate(plan):
                for group in optimiser.param_groups:
                    group["lr"] = rates[step]
                while True:
                    try:
                        loss = run.gradients(rows, micro)
                        break
                    except torch.OutOfMemoryError:
                        if micro <= 1:
                            raise
                        micro = max(1, min(micro, len(rows)) // 2)
                        out_of_memory += 1
                        optimiser.zero_grad(set_to_none=True)
                nn.utils.clip_grad_norm_(table.weights, max_grad_norm)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                losses.append(loss)
                if after_step is not None:
                    with torch.no_grad():
                        after_step(model, step)
    finally:
        model.eval()
        model.zero_grad(set_to_none=True)
        for parameter in frozen:
            parameter.requires_grad_(True)
    curve = torch.stack(losses).tolist() if losses else []
    tenth = max(1, len(curve) // 10)
    return {
        "steps": len(plan),
        "device": device,
        "precision": arithmetic,
        "tokens": sum(int(encoded.lengths[rows].sum()) for rows in plan),
        "out_of_memory": out_of_memory,
        "micro_batch": micro,
        "seconds": time.perf_counter() - started,
        "first_loss": float(np.mean(curve[:tenth])) if curve else None,
        "last_loss": float(np.mean(curve[-tenth:])) if curve else None,
    }


def schedule(step: int, total: int, warmup: float) -> float:
    """Return the share of the peak learning rate at a step: linear up, then linear down to 0 behind the last step."""
    rising = int(warmup * total)
    if step < rising:
        return (step + 1) / rising
    return (total - step) / max(1, total - rising)


def _decay(rates: Sequence[float], weight_decay: float) -> float:
    """Return what AdamW's weight decay leaves of a weight that never gets a gradient."""
    return math.prod(1 - rate * weight_decay for rate in rates)


@dataclass(frozen=True)
class _Run:
    """What every step of one training shares."""

    classifier: Classifier
    encoded: Encoded
    labels: IntArray
    precision: str
    extra_loss: ExtraLoss | None
    table: Table
    noise: packed.Noise

    def gradients(self, rows: IntArray, micro: int) -> torch.Tensor:
        """Add the gradient of the batch's mean loss; return that loss, still on the device."""
        loss = torch.zeros((), device=self.classifier.device)
        for start in range(0, len(rows), micro):
            part = rows[start : start + micro]
            gold = torch.from_numpy(self.labels[part]).to(self.classifier.device)
            logits = self.logits(part)
            value = functional.cross_entropy(logits, gold)
            if self.extra_loss is not None:
                value = value + self.extra_loss({**self.padded(part), "labels": gold}, logits, self.classifier.model)
            value = value * (len(part) / len(rows))
            value.backward()  # type: ignore[no-untyped-call]
            loss += value.detach()
        return loss

    def logits(self, rows: IntArray) -> torch.Tensor:
        """Return float32 logits with dropout: without padding where the architecture is known, else by the model."""
        model, low = self.classifier.model, self.precision == "bf16"
        if packed.supports(model):
            batch = packed.pack(self.encoded, rows, model, number=self.table.number)
            dtype = torch.bfloat16 if low else torch.float32
            return packed.logits(model, batch, dtype=dtype, words=self.table.words, noise=self.noise)
        with torch.autocast(self.classifier.device, torch.bfloat16, enabled=low):
            output: torch.Tensor = model(**self.padded(rows)).logits
        return output.float()

    def padded(self, rows: IntArray) -> Batch:
        """Return the rows as transformers models take them."""
        batch = collate(self.encoded, rows, self.classifier.model.config.pad_token_id or 0)
        return {name: tensor.to(self.classifier.device) for name, tensor in batch.items()}
