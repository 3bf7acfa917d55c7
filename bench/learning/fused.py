"""Steps around the matrix products of a decoder, each with a backward pass that is written out.

Composed of torch's own functions they move several times as much memory, which on a CPU costs as much time as the
products. Each takes and gives gradients like the composed form, up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Tensor = torch.Tensor
AT_ONCE = 1024  # tokens whose logits are in memory together
FEW = 64  # the same where memory is scarce
_IN_CACHE = 16  # tokens whose float32 logits stay in a processor's cache


def joined(dtype: torch.dtype, *weights: Tensor) -> Tensor:
    """Return tensors one below the other, cast on the way."""
    return weights[0].to(dtype) if len(weights) == 1 else _apply(_Joined, dtype, *weights)


def normed(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """Return float32 x [T, hidden] over the root of its mean square, times the weight, in a type."""
    return _apply(_Normed, x, weight, eps, dtype)


def silu_times(x: Tensor) -> Tensor:
    """Return silu(gate) * up of [T, 2 * inner], in which they lie side by side: [T, inner]."""
    return _apply(_SiluTimes, x)


def turned(x: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
    """Turn the first heads of x [T, all heads, size]: dimensions i and i + size / 2 by the angle of their position.

    Args:
        x: queries and keys first, values behind.
        cos: of the angles, float32 [T, 1, size / 2].
        sin: of the angles, likewise.
        heads: how many are turned.
    """
    return _apply(_Turned, x, cos, sin, heads)


@dataclass
class Tied:
    """The gradient of a table of embeddings that is the output layer as well, on its way from there to the embeddings.

    Attributes:
        grad: [vocabulary, hidden], what the output layer adds; the embeddings add theirs to it, row by row.
    """

    grad: Tensor | None = None


def embedded(ids: Tensor, words: nn.Embedding, tied: Tied | None = None) -> Tensor:
    """Return the embeddings [T, hidden] of ids [T]; the padding id gets no gradient from here."""
    if tied is None:
        return functional.embedding(ids, words.weight, words.padding_idx)
    return _apply(_TiedEmbedding, ids, words.weight, words.padding_idx, tied)


def cross_entropy(
    states: Tensor, head: Tensor, gold: Tensor, dtype: torch.dtype, at_once: int = AT_ONCE, tied: Tied | None = None
) -> Tensor:
    """Return the mean cross-entropy of tokens, whose logits are never kept.

    Args:
        states: [A, hidden]; A is not 0.
        head: [vocabulary, hidden].
        gold: int64 [A].
        dtype: of the matrix products.
        at_once: tokens whose logits are in memory together.
        tied: takes the gradient of ``head`` to the embeddings that the states were made from.
    """
    return _apply(_CrossEntropy, states, head, gold, dtype, at_once, tied)


def _apply(function: type[torch.autograd.Function], *inputs: Any) -> Tensor:
    result: Tensor = function.apply(*inputs)  # type: ignore[no-untyped-call]
    return result


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> Tensor:
        ctx.like = [(len(weight), weight.dtype) for weight in weights]
        result = weights[0].new_empty((sum(map(len, weights)), *weights[0].shape[1:]), dtype=dtype)
        for part, weight in zip(torch.split(result, [len(weight) for weight in weights]), weights, strict=True):
            part.copy_(weight)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        parts = torch.split(grad, [rows for rows, _ in ctx.like])
        return (None, *(part.to(dtype) for part, (_, dtype) in zip(parts, ctx.like, strict=True)))


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        result: Tensor = (x * scale).mul_(weight).to(dtype)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight, scale = ctx.saved_tensors
        unit, grad = x * scale, grad.float()
        product = grad * unit
        mean = torch.mv(product, weight).div_(x.shape[-1])[:, None]
        return (grad * weight).addcmul_(unit, mean, value=-1).mul_(scale), product.sum(0), None, None


class _SiluTimes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        gate, up = x.chunk(2, dim=-1)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gate, up = x.chunk(2, dim=-1)
        result = torch.empty_like(x)
        of_gate, of_up = result.chunk(2, dim=-1)
        torch.mul(grad, functional.silu(gate), out=of_up)
        of_gate.copy_(torch.ops.aten.silu_backward(grad * up, gate))
        return result


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.heads = heads
        return _turn(x, cos, sin, heads)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        cos, sin = ctx.saved_tensors
        return _turn(grad, cos, -sin, ctx.heads), None, None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
    result = torch.empty_like(x)
    first, second = x[:, :heads].float().chunk(2, dim=-1)
    low, high = result[:, :heads].chunk(2, dim=-1)
    low.copy_((first * cos).addcmul_(second, sin, value=-1))
    high.copy_((second * cos).addcmul_(first, sin))
    result[:, heads:] = x[:, heads:]
    return result


class _TiedEmbedding(torch.autograd.Function):
    """Adds few rows to the gradient of the output layer, where torch would make a second whole table and add that."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor, padding: int | None, tied: Tied) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.padding, ctx.tied = padding, tied
        return functional.embedding(ids, table)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        (ids,), total = ctx.saved_tensors, ctx.tied.grad
        ctx.tied.grad = None  # nobody else holds it, so that torch takes it as it is
        used, places = torch.unique(ids, return_inverse=True)
        if ctx.padding is not None:
            grad = grad.masked_fill((ids == ctx.padding)[:, None], 0)
        rows = torch.ops.aten.embedding_dense_backward(grad, places, len(used), -1, False)
        return None, total.index_add_(0, used, rows), None, None


class _CrossEntropy(torch.autograd.Function):
    """The gradients are made with the loss, some tokens at a time, because logits take more memory than all else."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, head: Tensor, gold: Tensor, dtype: torch.dtype, at_once: int, tied: Tied | None
    ) -> Tensor:
        ctx.tied = tied
        low, table = states.to(dtype), head.to(dtype)
        of_states, of_head = torch.empty_like(states), None
        loss = head.new_zeros((), dtype=torch.float32)
        for start in range(0, len(gold), at_once):
            part, right = low[start : start + at_once], gold[start : start + at_once, None]
            grad = functional.linear(part, table)
            step = _IN_CACHE if grad.device.type == "cpu" else len(grad)
            pieces = zip(torch.split(grad, step), torch.split(right, step), strict=True)
            loss += torch.cat([_turn_to_gradient(piece, each, len(gold)) for piece, each in pieces]).sum()
            of_states[start : start + at_once] = torch.mm(grad, table)
            if of_head is None:
                of_head = torch.mm(grad.t(), part).to(head.dtype)
            elif of_head.dtype == dtype:
                of_head.addmm_(grad.t(), part)
            else:
                of_head.add_(torch.mm(grad.t(), part))
        ctx.save_for_backward(of_states, of_head)
        return loss / len(gold)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        of_states, of_head = ctx.saved_tensors  # changed in place: a second backward pass is refused by torch
        of_states, of_head = of_states.mul_(grad), of_head.mul_(grad)
        if ctx.tied is not None:
            ctx.tied.grad, of_head = of_head, None
        return of_states, of_head, None, None, None, None


def _turn_to_gradient(low: Tensor, right: Tensor, count: int) -> Tensor:
    """Return the losses [A] of logits [A, vocabulary]; these become the gradients of the mean over ``count`` tokens."""
    logits = low.float()
    best, wanted = logits.amax(-1), logits.gather(-1, right).squeeze(-1)
    shares = torch.softmax(logits, dim=-1)
    losses = best - wanted - shares.amax(-1).log()  # the share of the best one is never too small
    low.copy_(shares.scatter_add_(-1, right, torch.full_like(right, -1, dtype=shares.dtype)).div_(count))
    return losses
