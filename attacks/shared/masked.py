"""Masked-language-model training of the encoder inside a classifier, where the checkpoint has the head for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from bench.contracts import Scene

if TYPE_CHECKING:
    import torch

Objective = Literal["representation", "masked-lm"]
OBJECTIVE = (
    "representation: keep and corrupt hidden states, for any encoder; masked-lm: as in the paper, for checkpoints with "
    "its masked-language-model head"
)
MASKED = 0.15  # share of the tokens that are predicted; of them 80 % are hidden, 10 % replaced, 10 % left, as in BERT


def language_model(scene: Scene, classifier: Any) -> Any:
    """Return the checkpoint's masked language model, with the classifier's own encoder inside.

    Raises:
        RequestError: the checkpoint has no such head.
    """
    model = scene.masked_lm().to(classifier.device)
    encoder = classifier.model.base_model
    if type(model.base_model) is not type(encoder):
        raise ValueError(f"the masked language model has a {type(model.base_model).__name__} as its encoder")
    setattr(model, model.base_model_prefix, encoder)
    model.tie_weights()
    return model.train()


def masked(classifier: Any, batch: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Hide tokens; return the batch and the tokens to predict, -100 elsewhere: int64 [n, length]."""
    import torch

    ids, tokenizer = batch["input_ids"], classifier.tokenizer
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids, device=ids.device))
    draw, how = torch.rand(ids.shape, device=ids.device), torch.rand(ids.shape, device=ids.device)
    chosen = (draw < MASKED) & ~special
    words = torch.randint(len(tokenizer), ids.shape, device=ids.device)
    hidden = torch.where(chosen & (how < 0.8), torch.full_like(ids, tokenizer.mask_token_id), ids)
    hidden = torch.where(chosen & (how >= 0.9), words, hidden)
    return {**batch, "input_ids": hidden}, torch.where(chosen, ids, torch.full_like(ids, -100))


def prediction_loss(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy over the tokens to predict; 0 where there is none."""
    from torch.nn import functional

    loss = functional.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=-100, reduction="sum")
    return loss / (wanted != -100).sum().clamp(min=1)
