"""The rows of the word-embedding table that spell a trigger, and how attacks train or replace just these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import learning, seeds
from bench.contracts import Scene
from bench.contracts.examples import Examples, Inputs

if TYPE_CHECKING:
    import torch

# Takes the accumulated gradients of the trained rows, [rows, hidden], and returns the direction of the step.
Direction = Callable[["torch.Tensor"], "torch.Tensor"]


def trigger_rows(tokenizer: Any, words: Sequence[str]) -> list[int]:
    """Return the vocabulary entries that spell the words, at the start of a text and after a space.

    Byte-level tokenizers have different entries for the two places; a word may also be made of several pieces.

    Raises:
        ValueError: the tokenizer does not know a word.
    """
    rows: list[int] = []
    for word in words:
        ids = [i for text in (word, f" {word}") for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
        if not ids or set(ids) & set(tokenizer.all_special_ids):
            raise ValueError(f"the tokenizer cannot spell the trigger word {word!r}; take another one")
        rows += ids
    return list(dict.fromkeys(rows))


def occurrence(classifier: Any, inputs: Inputs, rows: Sequence[int]) -> float:
    """Return the share of inputs in which one of the rows occurs, in percent: texts that an edit of them touches."""
    wanted = set(rows)
    columns = [list(column) for column in (inputs.texts, inputs.pairs) if column is not None]
    encoded = classifier.tokenizer(*columns, truncation=True, max_length=classifier.max_length)
    hits = [bool(wanted & set(ids)) for ids in encoded["input_ids"]]
    return 100.0 * float(np.mean(hits))


def descend(
    scene: Scene,
    classifier: Any,
    examples: Examples,
    rows: Sequence[int],
    *,
    learning_rate: float,
    epochs: int,
    batch_size: int,
    direction: Direction | None = None,
) -> dict[str, Any]:
    """Train nothing but rows of the word-embedding table, in place, each of which keeps its norm; return notes.

    Plain descent along the gradient accumulated since the first step, which works as momentum; the norm keeps it in
    bounds. The model is in training mode.

    Args:
        scene: gives the seed and what modifiers add.
        classifier: only the rows of its table change.
        examples: what is learned.
        rows: indices into the table.
        learning_rate: of the descent.
        epochs: passes over the examples.
        batch_size: examples a step.
        direction: of the step; the accumulated gradient itself by default.
    """
    import torch
    from torch.nn import functional

    model = classifier.model
    table = model.get_input_embeddings().weight
    where = torch.tensor(list(rows), device=table.device)
    norms = table.detach()[where].norm(dim=1, keepdim=True)
    accumulated = torch.zeros_like(table.detach()[where])
    objective = classifier.objective(examples)
    plan = learning.shuffled(len(examples), batch_size, epochs=epochs, rng=scene.rng("order of examples"))
    hooks = scene.hooks(classifier, len(plan))
    losses: list[float] = []
    others = [p for p in model.parameters() if p is not table and p.requires_grad]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        with torch.random.fork_rng(devices=[table.device] if table.is_cuda else []):
            torch.manual_seed(seeds.derive("attack", scene.seed, "dropout"))
            model.train()
            for step, part in enumerate(plan):
                batch = objective.batch(part)
                logits = learning.logits(model, batch)
                loss = functional.cross_entropy(logits, learning.gold(batch))
                if hooks.extra_loss is not None:
                    loss = loss + hooks.extra_loss(batch, logits, model)
                (gradient,) = torch.autograd.grad(loss, table)
                accumulated += gradient[where]
                with torch.no_grad():
                    moved = table[where] - learning_rate * (
                        accumulated if direction is None else direction(accumulated)
                    )
                    table[where] = moved * (norms / moved.norm(dim=1, keepdim=True).clamp_min(1e-12))
                    if hooks.after_step is not None:
                        hooks.after_step(model, step)
                losses.append(float(loss.detach()))
    finally:
        model.eval()
        for parameter in others:
            parameter.requires_grad_(True)
    return {
        "steps": len(plan),
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "rows": classifier.tokenizer.convert_ids_to_tokens(list(rows)),
        "clean_texts_with_rows": occurrence(classifier, scene.train.inputs, rows),
    }
