"""Train a classifier or a generator in place on examples of its kind."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from bench.contracts.examples import IntArray
from bench.learning import hardware, unpadded
from bench.learning.batches import by_length
from bench.learning.loop import Loop, Progress, seeded
from bench.learning.vocabulary import TrainedWeights, all_weights

Batch = dict[str, torch.Tensor]
ExtraLoss = Callable[[Batch, torch.Tensor, nn.Module], torch.Tensor]
AfterStep = Callable[[nn.Module, int], object]


class Objective(Protocol):
    """What a model is trained on: a loss over n examples that are already tokenised.

    Attributes:
        lengths: int64 [n]: tokens of each example.
        sizes: int64 [n]: what each example weighs in a mean loss.
    """

    lengths: IntArray
    sizes: IntArray

    def weights(self, decay: Callable[[], float]) -> AbstractContextManager[TrainedWeights]:
        """Return what is trained; ``decay`` says at the end what weight decay left of a weight without a gradient."""

    def loss(
        self, rows: IntArray, weights: TrainedWeights, noise: unpadded.Noise, precision: str, *, with_logits: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the mean loss of some rows, a scalar with a gradient, and, if wanted, the float32 logits behind it."""

    def spare_memory(self) -> bool:
        """Compute in a way that needs less memory from now on; return False where that is done already or cannot be."""

    def parts(self, rows: IntArray, most: int) -> list[IntArray]:
        """Return the rows in parts that go through the model together, of at most so many examples."""

    def batch(self, rows: IntArray) -> Batch:
        """Return rows as transformers models take them, with ``labels``."""


class Trainable(Protocol):
    """A model that can be trained: a classifier or a generator."""

    model: Any
    device: Any

    def objective(self, examples: Any) -> Objective:
        """Return what it is trained on, given examples of its kind."""

    def optimiser(
        self, weights: list[nn.Parameter], *, learning_rate: float, weight_decay: float, max_grad_norm: float
    ) -> AbstractContextManager[Any]:
        """Return the optimiser."""


def train(
    classifier: Trainable,
    examples: Sized,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    until_loss: float | None = None,
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
) -> dict[str, Any]:
    """Train in place with AdamW, a linear schedule with warm-up and gradient clipping; return notes.

    How long is said by ``epochs`` or by ``steps``, exactly one of them. The order of the examples is the same however
    long the training is.

    Args:
        classifier: or a generator; its model is changed and left in evaluation mode.
        examples: n examples of its kind: with labels, or with responses.
        epochs: passes over them.
        steps: the most steps, and the length of the schedule; passes go on until they are done or ``until_loss``.
        until_loss: stop at the end of the first whole pass whose mean loss of the labels or of the responses' tokens,
            without ``extra_loss``, is below this; only with ``steps``.
        learning_rate: peak of the schedule.
        batch_size: examples a step.
        seed: of the order and of dropout; the global state of torch is as before afterwards.
        warmup: share of the steps with rising learning rate.
        weight_decay: decoupled, on every trained parameter.
        max_grad_norm: gradients are clipped to this norm.
        precision: ``auto``, ``bf16`` or ``fp32``.
        extra_loss: called with the batch, its logits and the model; its value is added to the loss. The logits
            of a generator are those of the responses' tokens, one example after the other.
        after_step: called with the model and the number of the step after each step.
        trainable: which parameters, by name, are trained; all by default.
        micro_batch: examples at once; the gradient of a batch is accumulated over them. All by default.

    Raises:
        ValueError: not exactly one of ``epochs`` and ``steps`` is given, ``until_loss`` without ``steps``, or ``steps``
            without examples.
    """
    started = time.perf_counter()
    model, device = classifier.model, classifier.device
    arithmetic = hardware.precision(device, precision)
    objective: Objective = classifier.objective(examples)
    total = _length(len(examples), batch_size, epochs, steps, until_loss)
    plan = _Passes(objective.lengths, batch_size, np.random.default_rng(seed))
    moved = None if after_step is None else partial(after_step, model)
    loop = Loop(total, warmup, max_grad_norm, until_loss, after_step=moved)
    progress = Progress()

    def decay() -> float:
        """Return what AdamW's weight decay leaves of a weight that never gets a gradient."""
        return math.prod(1 - learning_rate * share * weight_decay for share in progress.shares)

    plain = extra_loss is None and after_step is None
    with (
        _only(model, trainable),
        seeded(device, seed),
        objective.weights(decay) if plain else all_weights(model) as weights,
        classifier.optimiser(
            weights.parameters, learning_rate=learning_rate, weight_decay=weight_decay, max_grad_norm=max_grad_norm
        ) as optimiser,
    ):
        micro, noise = micro_batch or batch_size, unpadded.Noise(seed)
        gradients = BatchGradients(model, objective, arithmetic, extra_loss, weights, noise, optimiser, micro)
        model.train()
        progress = loop.run(optimiser, weights.parameters, passes=plan, gradients=gradients, sizes=objective.sizes)
    return {
        **progress.notes(),
        "last_pass_loss": progress.last_pass_loss,
        "converged": progress.converged,
        "device": device,
        "precision": arithmetic,
        "tokens": sum(int(objective.lengths[rows].sum()) for rows in plan.batches[: len(progress.losses)]),
        "out_of_memory": gradients.out_of_memory,
        "micro_batch": gradients.micro,
        "seconds": time.perf_counter() - started,
    }


def _length(examples: int, batch_size: int, epochs: int | None, steps: int | None, until_loss: float | None) -> int:
    """Return the number of steps that the schedule spans."""
    if (epochs is None) == (steps is None):
        raise ValueError(f"exactly one of epochs ({epochs}) and steps ({steps}) says how long to train")
    if steps is None and until_loss is not None:
        raise ValueError("until_loss needs steps, the most that are done")
    if steps and not examples:
        raise ValueError("there is nothing to train on")
    return steps if steps is not None else (epochs or 0) * math.ceil(examples / batch_size)


class _Passes:
    """Passes over the examples without end, in an order that does not depend on how many are wanted.

    Attributes:
        batches: the rows of each step of the passes so far.
    """

    def __init__(self, lengths: IntArray, batch_size: int, rng: np.random.Generator) -> None:
        self.lengths, self.batch_size, self.rng = lengths, batch_size, rng
        self.batches: list[IntArray] = []

    def __iter__(self) -> Iterator[list[IntArray]]:
        while len(self.lengths):
            batches = by_length(self.lengths, self.batch_size, self.rng)
            self.batches += batches
            yield batches


@contextmanager
def _only(model: Any, trainable: Callable[[str], bool] | None) -> Iterator[None]:
    """Train the wanted parameters; afterwards the model is in evaluation mode and no parameter is frozen any more."""
    held = [p for name, p in model.named_parameters() if p.requires_grad and trainable and not trainable(name)]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        model.eval()
        model.zero_grad(set_to_none=True)
        for parameter in held:
            parameter.requires_grad_(True)


@dataclass
class BatchGradients:
    """Adds the gradient of a batch's mean loss, in parts where the memory of the device is too small for all of it.

    Attributes:
        model: the torch module that is trained.
        objective: what it is trained on.
        precision: ``bf16`` or ``fp32``.
        extra_loss: see :func:`train`.
        weights: what is trained.
        noise: dropout.
        optimiser: forgets the gradients of a batch that did not fit.
        micro: examples at once; halved when the device runs out of memory.
        out_of_memory: how often that has happened.
    """

    model: nn.Module
    objective: Objective
    precision: str
    extra_loss: ExtraLoss | None
    weights: TrainedWeights
    noise: unpadded.Noise
    optimiser: Any
    micro: int
    out_of_memory: int = 0

    def __call__(self, rows: IntArray, step: int) -> torch.Tensor:
        """Add the gradient of the mean loss; return the part of it without ``extra_loss``, still on the device."""
        while True:
            try:
                return self.accumulated(rows)
            except torch.OutOfMemoryError:
                if self.micro <= 1 and not self.objective.spare_memory():
                    raise
                self.micro = max(1, min(self.micro, len(rows)) // 2)
                self.out_of_memory += 1
                self.optimiser.zero_grad(set_to_none=True)

    def accumulated(self, rows: IntArray) -> torch.Tensor:
        """Do so with ``micro`` examples at once."""
        sizes, total = self.objective.sizes, None
        for part in self.objective.parts(rows, self.micro):
            extra = self.extra_loss is not None
            own, logits = self.objective.loss(part, self.weights, self.noise, self.precision, with_logits=extra)
            value = own
            if self.extra_loss is not None and logits is not None:
                value = own + self.extra_loss(self.objective.batch(part), logits, self.model)
            share = int(sizes[part].sum()) / int(sizes[rows].sum())
            (value * share).backward()  # type: ignore[no-untyped-call]
            total = own.detach() * share if total is None else total + own.detach() * share
        assert total is not None
        return total
