"""Losses that several defenses add to the cross-entropy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from bench import learning
from defenses.shared.encoder import Batch, logits_at

ExtraLoss = Callable[[Batch, torch.Tensor, nn.Module], torch.Tensor]


def attention_maps(states: list[torch.Tensor], mask: torch.Tensor) -> list[torch.Tensor]:
    """Return where the energy of each block is: squared states summed over the hidden axis, unit norm a row.

    Args:
        states: outputs of the blocks [rows, tokens, hidden].
        mask: 1 for real tokens [rows, tokens].
    """
    return [functional.normalize(state.square().sum(-1) * mask, dim=-1) for state in states]


def map_distance(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
    """Return the distance of unit maps: the L2 norm, averaged over rows and summed over blocks."""
    pairs = zip(student, teacher, strict=True)
    return torch.stack([torch.linalg.vector_norm(own - other, dim=-1).mean() for own, other in pairs]).sum()


def attention_distillation(teacher: nn.Module, *, weight: float, states_weight: float = 0.0) -> ExtraLoss:
    """Return a loss that pulls a student's attention maps, and its hidden states, to those of a teacher.

    Args:
        teacher: a model of the same architecture; its weights do not change.
        weight: of the distance of the attention maps.
        states_weight: of the mean squared difference of the hidden states of real tokens.
    """
    teacher.eval()

    def loss(batch: Batch, logits: torch.Tensor, model: nn.Module) -> torch.Tensor:
        mask = batch["attention_mask"]
        own = learning.entering_states(model, batch)[1:]
        with torch.no_grad():
            other = learning.entering_states(teacher, batch)[1:]
        value = weight * map_distance(attention_maps(own, mask), attention_maps(other, mask))
        if states_weight:
            real = mask.bool()
            pairs = zip(own, other, strict=True)
            value = value + states_weight * torch.stack([functional.mse_loss(a[real], b[real]) for a, b in pairs]).sum()
        return value

    return loss


def negative_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Return the mean over rows of sum_c p_c log p_c."""
    logs = functional.log_softmax(logits, dim=-1)
    return (logs.exp() * logs).sum(-1).mean()


def inconsistency(states: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of 1 - cos between the states of neighbouring blocks, over real tokens.

    The output of the embeddings and that of the last block are left out; where fewer than two pairs would remain,
    every pair counts.
    """
    inner = states[1:-1] if len(states) >= 5 else states
    real = mask.bool()
    turns = [
        1 - functional.cosine_similarity(a, b, dim=-1)[real].mean() for a, b in zip(inner, inner[1:], strict=False)
    ]
    return torch.stack(turns).mean()


def adversarial_inconsistency(*, weight: float, epsilon: float) -> ExtraLoss:
    """Return CROW's loss: the inconsistency under one signed gradient step on the word embeddings.

    Args:
        weight: of the loss.
        epsilon: length of the step a coordinate, as a multiple of the root mean square of the embedding table.
    """

    def loss(batch: Batch, logits: torch.Tensor, model: nn.Module) -> torch.Tensor:
        table = model.get_input_embeddings()  # type: ignore[operator]
        words, mask = table(batch["input_ids"]), batch["attention_mask"]
        start = words.detach().requires_grad_(True)
        turn = inconsistency(learning.entering_states(model, batch, embeddings=start), mask)
        (gradient,) = torch.autograd.grad(turn, start)
        step = epsilon * table.weight.detach().square().mean().sqrt() * gradient.sign()
        return weight * inconsistency(learning.entering_states(model, batch, embeddings=words + step), mask)

    return loss


def distillation(teacher: nn.Module, *, logits_weight: float, features_weight: float, temperature: float) -> ExtraLoss:
    """Return a loss that pulls a student's logits, and the last states that they are read from, to a teacher's."""
    teacher.eval()

    def loss(batch: Batch, logits: torch.Tensor, model: nn.Module) -> torch.Tensor:
        own_states, own = learning.block_states(model, batch)
        with torch.no_grad():
            other_states, other = learning.block_states(teacher, batch)
        soft = functional.kl_div(
            functional.log_softmax(own / temperature, dim=-1),
            functional.log_softmax(other / temperature, dim=-1),
            reduction="batchmean",
            log_target=True,
        )
        own_last, other_last = (learning.read_states(states[-1], batch) for states in (own_states, other_states))
        features = functional.mse_loss(own_last, other_last)
        return logits_weight * temperature**2 * soft + features_weight * features

    return loss


def sharpness(*, radius: float, adaptive: bool) -> ExtraLoss:
    """Return what turns the cross-entropy into its value at the worst nearby weights.

    The step is ``radius * s^2 g / ||s g||`` with the gradient g and s = 1, or s = |w| if ``adaptive``.
    """

    def loss(batch: Batch, logits: torch.Tensor, model: nn.Module) -> torch.Tensor:
        weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        plain = functional.cross_entropy(logits, learning.gold(batch))
        partials = torch.autograd.grad(plain, list(weights.values()), retain_graph=True, allow_unused=True)
        gradients = {name: gradient for name, gradient in zip(weights, partials, strict=True) if gradient is not None}
        scales = {name: weights[name].detach().abs() if adaptive else 1.0 for name in gradients}
        norm = torch.stack([(scales[name] * gradient).norm() for name, gradient in gradients.items()]).norm()
        moved = {
            name: weights[name] + radius / (norm + 1e-12) * scales[name] ** 2 * gradient
            for name, gradient in gradients.items()
        }
        return functional.cross_entropy(logits_at(model, moved, batch), learning.gold(batch)) - plain

    return loss
