"""Forward passes over padded batches for losses of one's own, without padding where the architecture is known.

Batches are padded on the right; labels in them are ignored. The arithmetic is that of the autocast context around a
call, and a model in training mode has dropout of its own in every pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional

from bench.learning import packed, unpadded
from bench.learning.parts import blocks

Batch = Mapping[str, torch.Tensor]


def logits(
    model: Any,
    batch: Batch,
    *,
    embeddings: torch.Tensor | None = None,
    edit: unpadded.Edit | None = None,
    whole: bool = False,
) -> torch.Tensor:
    """Return float32 logits [B, classes] with gradients: what ``model(**batch)`` would.

    Those of a causal language model are [tokens, vocabulary], one row in front of each token that has a label.

    Args:
        model: a sequence classifier or a causal language model of transformers.
        batch: B texts, padded to L tokens.
        embeddings: word embeddings [B, L, hidden] to use instead of those of ``input_ids``.
        edit: called with the number of each block and the states that enter it, [tokens, hidden]: real tokens only, of
            one text after the other. Returns what enters instead. Behind the last block it is called once more; the
            states are then those of first tokens alone, unless the pass is computed ``whole``.
        whole: compute the last block for every token.
    """
    if writes(model):
        wanted = batch["labels"][:, 1:] >= 0
        with _edited(model, batch, edit):
            whole_output: torch.Tensor = model(**_inputs(batch, embeddings), use_cache=False).logits
        return whole_output[:, :-1][wanted].float()
    if not packed.supports(model):
        with _edited(model, batch, edit):
            output: torch.Tensor = model(**_inputs(batch, embeddings)).logits
        return output.float()
    return _packed(packed.logits, model, batch, embeddings, edit=edit, whole=whole)


def writes(model: Any) -> bool:
    """Whether a model is a causal language model: it has a logit for every token that may come next."""
    return model.get_output_embeddings() is not None


def gold(batch: Batch) -> torch.Tensor:
    """Return the labels that belong to the rows of :func:`logits`: int64 [B], or [tokens] where tokens have labels."""
    labels = batch["labels"]
    return labels if labels.dim() == 1 else labels[:, 1:][labels[:, 1:] >= 0]


def read_states(states: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the states [B, L, hidden] from which the rows of :func:`logits` are read: those of the first tokens.

    Of a causal language model, those in front of each token that has a label: [tokens, hidden].
    """
    labels = batch["labels"]
    return states[:, 0] if labels.dim() == 1 else states[:, :-1][labels[:, 1:] >= 0]


def loss(model: Any, batch: Batch) -> torch.Tensor:
    """Return the mean cross-entropy of the labels of a batch, with gradients: what a model is trained on."""
    return functional.cross_entropy(logits(model, batch), gold(batch))


def first_token_last_block(model: Any, batch: Batch, *, embeddings: torch.Tensor | None = None) -> torch.Tensor:
    """Return the last state of the first token, float32 [B, hidden]; see :func:`logits`."""
    if not packed.supports(model):
        output: torch.Tensor = model.base_model(**_inputs(batch, embeddings)).last_hidden_state[:, 0]
        return output.float()
    return _packed(packed.first_token_last_block, model, batch, embeddings)


def states(model: Any, batch: Batch) -> torch.Tensor:
    """Return the last state of every real token, float32 [tokens, hidden], of one text after the other."""
    if not packed.supports(model):
        output: torch.Tensor = model.base_model(**_inputs(batch)).last_hidden_state[batch["attention_mask"].bool()]
        return output.float()
    return _packed(packed.states, model, batch)


def entering_states(model: Any, batch: Batch, *, embeddings: torch.Tensor | None = None) -> list[torch.Tensor]:
    """Return what enters each block and what leaves the last one: float32 [B, L, hidden], 0 on padding.

    Without logits, which cost a causal language model more than its blocks.
    """
    if not writes(model):
        return block_states(model, batch, embeddings=embeddings)[0]
    mask, hidden = batch["attention_mask"].bool(), list[torch.Tensor]()

    def keep(_number: int, flat: torch.Tensor) -> torch.Tensor:
        grid = flat.new_zeros(*mask.shape, flat.shape[1])
        hidden.append(grid.masked_scatter(mask[..., None], flat).float())
        return flat

    with _edited(model, batch, keep):
        model.base_model(**_inputs(batch, embeddings), use_cache=False)
    return hidden


def block_states(
    model: Any, batch: Batch, *, embeddings: torch.Tensor | None = None
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return what enters each block and what leaves the last one, and the logits of the same pass.

    States are float32 [B, L, hidden], 0 on padding; see :func:`logits`.
    """
    mask = batch["attention_mask"]
    places, entering = mask.flatten().nonzero().squeeze(1), []

    def keep(_number: int, flat: torch.Tensor) -> torch.Tensor:
        grid = flat.new_zeros(mask.numel(), flat.shape[1]).index_copy(0, places, flat)
        entering.append(grid.view(*mask.shape, -1).float())
        return flat

    answers = logits(model, batch, embeddings=embeddings, edit=keep, whole=True)
    return entering, answers


def _packed(run: Any, model: Any, batch: Batch, embeddings: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
    device = batch["input_ids"].device.type
    dtype = torch.bfloat16 if torch.is_autocast_enabled(device) else torch.float32
    noise = unpadded.Noise(int(torch.randint(1 << 62, ()))) if model.training else None
    inputs, words = unpadded.strip(batch, model), None
    if embeddings is not None:
        words = embeddings[batch["attention_mask"].bool()]
        inputs = replace(inputs, ids=torch.arange(len(words), device=words.device))
    with torch.autocast(device, enabled=False):
        output: torch.Tensor = run(model, inputs, dtype=dtype, noise=noise, words=words, **options)
    return output.float()


def _inputs(batch: Batch, embeddings: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Return a batch as the model takes it."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    if embeddings is not None:
        del inputs["input_ids"]
        inputs["inputs_embeds"] = embeddings
    return inputs


@contextmanager
def _edited(model: Any, batch: Batch, edit: unpadded.Edit | None) -> Iterator[None]:
    """Have a model with padding call an edit."""
    if edit is None:
        yield
        return
    mask = batch["attention_mask"].bool()

    def changed(number: int, held: Any) -> Any:
        grid, *rest = held if isinstance(held, tuple) else (held,)
        flat = edit(number, grid[mask]).to(grid.dtype)
        grid = grid.masked_scatter(mask[..., None], flat)
        return (grid, *rest) if isinstance(held, tuple) else grid

    parts = blocks(model)
    handles = [
        part.register_forward_pre_hook(lambda _part, held, number=number: changed(number, held))
        for number, part in enumerate(parts)
    ]
    handles.append(parts[-1].register_forward_hook(lambda _part, _held, output: changed(len(parts), output)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
