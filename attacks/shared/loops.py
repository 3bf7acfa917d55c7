"""A training loop for losses that do not come from labels: representations, masked words, learned choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.contracts.examples import Inputs, IntArray

if TYPE_CHECKING:
    import torch


def batch_of(classifier: Any, inputs: Inputs) -> Any:
    """Tokenise inputs into one padded batch on the classifier's device."""
    columns = [list(column) for column in (inputs.texts, inputs.pairs) if column is not None]
    encoded = classifier.tokenizer(
        *columns, padding=True, truncation=True, max_length=classifier.max_length, return_tensors="pt"
    )
    return encoded.to(classifier.device)


def batches(n: int, size: int, epochs: int, rng: np.random.Generator) -> list[IntArray]:
    """Return row numbers of shuffled batches, epoch after epoch; the last batch of an epoch has the rest."""
    return [order[at : at + size] for order in (rng.permutation(n) for _ in range(epochs)) for at in range(0, n, size)]


@contextmanager
def seeded(classifier: Any, seed: int) -> Iterator[None]:
    """Seed torch, and leave its global state as it was."""
    import torch

    devices = [torch.cuda.current_device()] if classifier.device == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def minimise(
    classifier: Any,
    groups: Iterable[dict[str, Any]],
    plan: list[IntArray],
    loss: Callable[[IntArray, int], torch.Tensor],
    *,
    seed: int,
    warmup: float = 0.1,
    max_grad_norm: float = 1.0,
) -> dict[str, Any]:
    """Minimise a loss with AdamW, a linear schedule with warm-up and gradient clipping; return notes.

    Args:
        classifier: gives device and arithmetic; its model is in training mode meanwhile.
        groups: parameters with their peak learning rates, as optimisers of torch take them.
        plan: the rows of each step.
        loss: called with the rows and the number of the step.
        seed: of dropout and of whatever the loss draws from torch.
        warmup: share of the steps with rising learning rate.
        max_grad_norm: gradients are clipped to this norm.
    """
    import torch

    optimiser = torch.optim.AdamW([dict(group) for group in groups], weight_decay=0.0, fused=True)
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    rising = int(warmup * len(plan))
    found: list[torch.Tensor] = []

    def share(step: int) -> float:
        return (step + 1) / rising if step < rising else (len(plan) - step) / max(1, len(plan) - rising)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
    classifier.model.train()
    with seeded(classifier, seed):
        for step, rows in enumerate(plan):
            with torch.autocast(classifier.device, torch.bfloat16, enabled=classifier.precision == "bf16"):
                value = loss(rows, step)
            value.backward()
            torch.nn.utils.clip_grad_norm_(weights, max_grad_norm)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            found.append(value.detach())
    classifier.model.zero_grad(set_to_none=True)
    classifier.model.eval()
    values = torch.stack(found).tolist() if found else []
    tenth = max(1, len(values) // 10)
    ends = (values[:tenth], values[-tenth:])
    first, last = (float(np.mean(part)) if part else None for part in ends)
    return {"steps": len(values), "first_loss": first, "last_loss": last}
