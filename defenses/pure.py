"""PURE: prune attention heads, then keep the first token's attention even."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from bench import learning
from bench.contracts import Classifier, Defended, Examples, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Pure(Tuning):
    """Removes the heads whose first token attends evenly, then fine-tunes with a penalty on what the others attend to.

    Zhao, Xu and Yuan, ICML 2024. Needs clean examples. With a the attention of the first token:

    1. Prune: heads are ranked by the variance of a over the tokens, averaged over the clean sample, in a fine-tuned
       copy; those with the smallest go first, but the highest of each block stays.
    2. Normalise: train the received model without those heads on cross-entropy + lambda * sum over blocks of
       c_l * sum over heads of sqrt(sum over batch and tokens of a^2); c_l is the softmax of -log of the block's mean
       variance, scaled to [0, 1]. Pruned heads stay out.

    Deviations: the received model is the fine-tuned victim and there is a small clean sample instead of a training
    set; the variance is over real tokens only; the share of heads kept is the smallest of 0, 0.1, ..., 1 at which the
    victim without the others passes the shared selection rule, where the original stops at an accuracy of 0.85; the
    norm is divided by the square root of the batch's rows, so that the penalty does not grow with the batch.
    """

    name: ClassVar[str] = "pure"
    version: ClassVar[int] = 3
    citation: ClassVar[str] = "Zhao, Xu and Yuan, ICML 2024 (PURE)"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    weight: float = Field(0.15, ge=0, description="weight of the attention penalty, lambda")
    keep_ratio: float | None = Field(None, ge=0, le=1, description="share of heads kept; searched when not given")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Rank and prune the heads, then fine-tune with the penalty."""
        tuned = classifier.clone()
        self.tune(tuned, access)
        spread = variances(tuned, access)

        def build(share: float, labels: Examples) -> Defended:
            copy = classifier.clone()
            remove(copy.model, kept_heads(spread, share))
            return Defended(copy, {"keep_ratio": share})

        if self.keep_ratio is None:
            choice = access.choose([step / 10 for step in range(11)], build, trains=False)
            share, notes = choice.value, choice.notes()
        else:
            share, notes = self.keep_ratio, {}
        kept = kept_heads(spread, share)
        remove(classifier.model, kept)
        notes |= {"keep_ratio": share, "heads_kept": kept.sum(1).tolist()}
        notes["tuning"] = self.tune(
            classifier,
            access,
            extra_loss=penalty(self.weight, coefficients(spread)),
            after_step=lambda model, _step: remove(model, kept),
        )
        return Defended(classifier, notes)


def variances(classifier: Classifier, access: Access) -> Any:
    """Return [blocks, heads]: variance over real tokens of the first token's attention, averaged over the sample."""
    import torch

    from defenses.shared import encoder

    rows = []
    with torch.no_grad():
        for batch in encoder.batches(classifier, access.clean, 32):
            real = batch["attention_mask"].bool()[:, None, :]
            length = real.sum(-1)
            states, _ = learning.block_states(classifier.model, batch)
            maps = encoder.cls_attention(classifier.model, states[:-1], batch["attention_mask"])
            off = (maps - 1 / length[..., None]) * real  # the mean of a row is 1 / length
            spread = off.square().sum(-1) / length
            rows.append(spread.sum(1))
    return torch.stack(rows).sum(0) / len(access.clean)


def kept_heads(spread: Any, share: float) -> Any:
    """Return bool [blocks, heads]: the share with the largest variances, and the highest of each block."""
    import torch

    ranks = (-spread.flatten()).argsort(stable=True).argsort().view_as(spread)
    kept = ranks < round(share * spread.numel())
    return kept | torch.zeros_like(kept).scatter(1, spread.argmax(1, keepdim=True), True)


def remove(model: Any, kept: Any) -> None:
    """Zero the outgoing weights of the heads that are not kept, in place."""
    from defenses.shared import encoder

    for layer, keep in zip(encoder.linears(model, encoder.ATTENTION_OUTPUT), kept, strict=True):
        layer.weight.data[:, ~keep.repeat_interleave(layer.in_features // len(keep))] = 0.0


def coefficients(spread: Any) -> Any:
    """Return [blocks]: softmax of -log of the mean variance, scaled to [0, 1]."""
    raw = (-spread.mean(1).log()).softmax(0)
    return (raw - raw.min()) / (raw.max() - raw.min()).clamp_min(1e-12)


def penalty(weight: float, shares: Any) -> Any:
    """Return the attention penalty as an extra loss."""
    from defenses.shared import encoder

    def loss(batch: Any, logits: Any, model: Any) -> Any:
        states, _ = learning.block_states(model, batch)
        maps = encoder.cls_attention(model, states[:-1], batch["attention_mask"])
        norms = [m.square().sum((0, 2)).div(len(m)).sqrt().sum() for m in maps]
        return weight * sum(share * norm for share, norm in zip(shares, norms, strict=True))

    return loss
