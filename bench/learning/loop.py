"""The one training loop: AdamW on a linear schedule with warm-up and gradient clipping, whatever the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.contracts.examples import IntArray
from bench.learning import memory

# Adds the gradient of the loss of some rows, given the number of the step; returns the loss to watch, detached.
Gradients = Callable[[IntArray, int], torch.Tensor]


def schedule(step: int, total: int, warmup: float) -> float:
    """Return the share of the peak learning rate at a step: linear up, then linear down to 0 behind the last step."""
    rising = int(warmup * total)
    if step < rising:
        return (step + 1) / rising
    return (total - step) / max(1, total - rising)


@contextmanager
def seeded(device: str, seed: int) -> Iterator[None]:
    """Seed torch, and leave its global state as it was."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(seed)
        yield


@dataclass
class Progress:
    """What a training has done so far.

    Attributes:
        losses: of each step, scalars on the device.
        shares: of the peak learning rate, one for each step.
        last_pass_loss: mean over the examples of the last whole pass; None before the first one ends.
        converged: whether that mean fell below the wanted one; None where none is wanted.
    """

    losses: list[torch.Tensor] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    last_pass_loss: float | None = None
    converged: bool | None = None

    def notes(self) -> dict[str, Any]:
        """Return the number of steps, and the mean loss of their first and last tenth."""
        curve = torch.stack(self.losses).tolist() if self.losses else []
        tenth = max(1, len(curve) // 10)
        first, last = (float(np.mean(part)) if part else None for part in (curve[:tenth], curve[-tenth:]))
        return {"steps": len(curve), "first_loss": first, "last_loss": last}


@dataclass(frozen=True)
class Loop:
    """A plan for the steps of a training.

    Attributes:
        total: steps of the schedule, and the most that are done.
        warmup: share of them with rising learning rate.
        max_grad_norm: gradients are clipped to this norm.
        until_loss: stop after a whole pass whose mean loss is below this.
        after_backward: called with the share of the training that is over, when the gradients are there; may change
            them.
        after_step: called with the number of the step, when the weights have moved; may change them.
    """

    total: int
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    until_loss: float | None = None
    after_backward: Callable[[float], object] | None = None
    after_step: Callable[[int], object] | None = None

    def run(
        self,
        optimiser: Any,
        weights: Sequence[nn.Parameter],
        *,
        passes: Iterable[Sequence[IntArray]],
        gradients: Gradients,
        sizes: IntArray | None = None,
    ) -> Progress:
        """Train until the steps are done, the passes end or the loss is low enough.

        Args:
            optimiser: its groups have their peak learning rates.
            weights: what it trains.
            passes: the rows of each step, one sequence for each pass; asked for only when its turn comes.
            gradients: see :data:`Gradients`.
            sizes: int64 [n]: what each row weighs in the mean loss of a pass; all the same by default.
        """
        with memory.kept(weights[0].device.type):
            return self._run(optimiser, weights, passes, gradients, sizes)

    def _run(
        self,
        optimiser: Any,
        weights: Sequence[nn.Parameter],
        passes: Iterable[Sequence[IntArray]],
        gradients: Gradients,
        sizes: IntArray | None,
    ) -> Progress:
        peaks = [group["lr"] for group in optimiser.param_groups]
        progress = Progress(converged=None if self.until_loss is None else False)
        for batches in passes:
            left = self.total - len(progress.losses)
            for rows in batches[:left]:
                step = len(progress.losses)
                progress.shares.append(schedule(step, self.total, self.warmup))
                for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                    group["lr"] = peak * progress.shares[-1]
                progress.losses.append(gradients(rows, step))
                self._move(optimiser, weights, step)
            if batches and len(batches) <= left:
                progress.last_pass_loss = _mean(progress.losses[-len(batches) :], batches, sizes)
                progress.converged = None if self.until_loss is None else progress.last_pass_loss < self.until_loss
            if progress.converged or len(progress.losses) >= self.total:
                break
        return progress

    def _move(self, optimiser: Any, weights: Sequence[nn.Parameter], step: int) -> None:
        if self.after_backward is not None:
            self.after_backward(step / self.total)
        nn.utils.clip_grad_norm_(weights, self.max_grad_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if self.after_step is not None:
            with torch.no_grad():
                self.after_step(step)


def _mean(losses: Sequence[torch.Tensor], batches: Sequence[IntArray], sizes: IntArray | None) -> float:
    """Return the mean loss over the examples, given that of each batch."""
    weights = [len(rows) if sizes is None else int(sizes[rows].sum()) for rows in batches]
    return float(np.average(torch.stack(list(losses)).tolist(), weights=weights))


def minimise(
    classifier: Any,
    groups: Iterable[Mapping[str, Any]],
    plan: Sequence[IntArray],
    loss: Callable[[IntArray, int], torch.Tensor],
    *,
    seed: int,
    weight_decay: float = 0.0,
    **options: Any,
) -> dict[str, Any]:
    """Minimise a loss of one's own; return notes. For the cross-entropy of labels, :func:`train` is faster.

    Args:
        classifier: gives device and arithmetic; its model is in training mode meanwhile and in evaluation mode after.
        groups: of parameters, each ``{"params": [...], "lr": peak}``.
        plan: the rows of each step.
        loss: called with the rows and the number of the step.
        seed: of dropout and of whatever the loss draws from torch, whose global state is as before afterwards.
        weight_decay: decoupled.
        options: of :class:`Loop`, but ``total``.
    """
    model, device = classifier.model, classifier.device
    optimiser = torch.optim.AdamW([dict(group) for group in groups], weight_decay=weight_decay, fused=True)
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]

    def gradients(rows: IntArray, step: int) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=classifier.precision == "bf16"):
            value = loss(rows, step)
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    model.train()
    try:
        with seeded(device, seed):
            progress = Loop(len(plan), **options).run(optimiser, weights, passes=[plan], gradients=gradients)
    finally:
        model.zero_grad(set_to_none=True)
        model.eval()
    return progress.notes()
