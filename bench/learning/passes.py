"""Forward passes over padded batches for losses of one's own, without padding where the architecture is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bench.learning import packed


def logits(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return float32 logits [B, classes] with gradients: what ``model(**batch)`` would, in the arithmetic around it.

    Args:
        model: a sequence classifier of transformers; in training mode it has dropout.
        batch: padded on the right, without labels.
    """
    if not packed.supports(model):
        found: torch.Tensor = model(**batch).logits
        return found.float()
    return _packed(packed.logits, model, batch)


def first_states(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the last state of the first token, float32 [B, hidden]; see :func:`logits`."""
    if not packed.supports(model):
        found: torch.Tensor = model.base_model(**batch).last_hidden_state[:, 0]
        return found.float()
    return _packed(packed.first_states, model, batch)


def states(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the last state of every real token, float32 [tokens, hidden], of one text after the other."""
    if not packed.supports(model):
        found: torch.Tensor = model.base_model(**batch).last_hidden_state[batch["attention_mask"].bool()]
        return found.float()
    return _packed(packed.states, model, batch)


def _packed(run: Any, model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    device = batch["input_ids"].device.type
    dtype = torch.bfloat16 if torch.is_autocast_enabled(device) else torch.float32
    noise = packed.Noise(int(torch.randint(1 << 62, ()))) if model.training else None
    with torch.autocast(device, enabled=False):
        found: torch.Tensor = run(model, packed.strip(batch, model), dtype=dtype, noise=noise)
    return found.float()
