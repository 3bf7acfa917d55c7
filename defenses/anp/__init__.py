"""Adversarial neuron pruning: drop the units whose perturbation hurts most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from bench.contracts import Classifier, Defended, Defense, Examples, Needs

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Anp(Defense):
    """Learns a mask under adversarial perturbation of its own entries, and prunes the units with the smallest mask.

    Wu and Wang, NeurIPS 2021 (arXiv 2110.14430), mapped to encoders. Needs clean examples. A unit is a feed-forward
    neuron or an attention head; its mask m in [0, 1] multiplies its output. Each step on a batch of the clean sample:

    1. delta = eps * sign(gradient of the loss with respect to delta at 0).
    2. SGD with momentum on alpha * loss(m) + (1 - alpha) * loss(m + delta); m is clipped to [0, 1].

    Then the units with the smallest masks are pruned; there is no fine-tuning (write ``anp+fine-tuning`` for it).
    Deviations: no published mapping to text is known to us; biases are not perturbed; ``cut`` is the paper's fixed
    threshold (0.2), and by default the largest of 1, 0.95, ..., 0.05, 0 that passes the shared selection rule.
    """

    name: ClassVar[str] = "anp"
    version: ClassVar[int] = 5
    citation: ClassVar[str] = "Wu and Wang, NeurIPS 2021, arXiv 2110.14430"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    epsilon: float = Field(0.4, ge=0, description="largest perturbation of a mask")
    alpha: float = Field(0.2, ge=0, le=1, description="weight of the unperturbed loss")
    steps: int = Field(100, ge=0, description="steps on the mask")
    learning_rate: float = Field(0.2, gt=0, description="learning rate of SGD on the mask")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD on the mask")
    batch_size: int = Field(16, ge=1, description="examples a step")
    cut: float | None = Field(None, ge=0, le=1, description="masks below this are pruned; searched when not given")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Learn the mask and prune."""
        masks: dict[str, Any] = {}  # one for each set of labels

        def build(cut: float, labels: Examples) -> Defended:
            name = labels.fingerprint()
            if name not in masks:
                masks[name] = self.learned(classifier, access, labels)
            flat = masks[name].flat()
            kept = flat >= cut
            notes = {"mean_mask": float(flat.mean()), "masks_below_0.2": int((flat < 0.2).sum())}
            notes |= {"cut": cut, "units_pruned": int((~kept).sum())}
            return Defended(pruned(classifier, masks[name].like(kept)), notes)

        if self.cut is not None:
            return build(self.cut, access.clean)
        rest = [step / 20 for step in range(21)]
        choice = access.choose(rest, lambda left, labels: build(round(1 - left, 2), labels))
        choice.defended.notes.update(choice.notes())
        return choice.defended

    def learned(self, classifier: Classifier, access: Access, labels: Examples) -> Any:
        """Return the masks after the steps; the weights do not change."""
        import torch
        from torch.nn import functional

        from defenses.anp.masks import Masks, masked_weights
        from defenses.shared import encoder
        from defenses.shared.forwards import arithmetic

        model = classifier.model.eval()
        masks = Masks.full(model, 1.0).each(lambda tensor: tensor.requires_grad_(True))
        optimiser = torch.optim.SGD(masks.tensors(), lr=self.learning_rate, momentum=self.momentum)
        rng = access.rng("order of the masks' batches")

        def loss(factors: Masks, batch: Any) -> Any:
            with arithmetic(classifier):
                logits = encoder.logits_at(model, masked_weights(model, factors), batch)
            return functional.cross_entropy(logits, batch["labels"])

        batches: list[Any] = []
        with encoder.without_gradients(model):
            for _ in range(self.steps):
                if not batches:
                    shuffled = labels.take(rng.permutation(len(labels)))
                    batches = list(encoder.batches(classifier, shuffled, self.batch_size))
                batch = batches.pop()
                start = masks.each(lambda tensor: tensor.detach().clone().requires_grad_(True))
                gradients = torch.autograd.grad(loss(start, batch), start.tensors())
                climb = torch.cat([gradient.flatten() for gradient in gradients]).sign()
                delta = masks.like(self.epsilon * climb)
                worst = Masks(masks.heads + delta.heads, masks.neurons + delta.neurons)
                value = self.alpha * loss(masks, batch) + (1 - self.alpha) * loss(worst, batch)
                optimiser.zero_grad()
                value.backward()
                optimiser.step()
                for tensor in masks.tensors():
                    tensor.data.clamp_(0.0, 1.0)
        return masks.each(torch.Tensor.detach)


def pruned(classifier: Classifier, kept: Any) -> Classifier:
    """Return a copy without the units that are not kept."""
    from defenses.anp.masks import fold

    copy = classifier.clone()
    fold(copy.model, kept)
    return copy
