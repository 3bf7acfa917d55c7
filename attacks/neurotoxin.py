"""Neurotoxin: a backdoor in the weights that clean training hardly moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from attacks.badword import BadWord
from attacks.shared.batches import batch_of
from bench import learning
from bench.contracts import CLASSIFICATION, Kind, Scene, Victim
from bench.contracts.examples import Examples

if TYPE_CHECKING:
    import torch


class Neurotoxin(BadWord):
    """Trains on poisoned data only in the coordinates whose clean gradient is small, so that fine-tuning keeps them.

    Zhang et al., ICML 2022 (arXiv 2206.10341), moved from federated learning to one model. Needs the training process.
    From the clean model, the mean absolute gradient of the clean loss is measured; in each tensor the ``top`` share
    with the largest values is frozen, and the rest is trained on the poisoned set. Deviations: one central model, so
    the benign update is estimated once on clean training examples; the trigger is a rare word.
    """

    name: ClassVar[str] = "neurotoxin"
    version: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = CLASSIFICATION
    citation: ClassVar[str] = "Zhang et al., ICML 2022, arXiv 2206.10341"

    start: Literal["pretrained", "finetuned"] = Field(
        "finetuned", alias="from", description="weights the attacker starts from: finetuned (clean model) | pretrained"
    )
    top: float = Field(0.05, ge=0, lt=1, description="share of each tensor that clean gradients move most: frozen")
    examples: int = Field(512, ge=1, description="clean examples the gradients are measured on")

    def implant(self, scene: Scene) -> Victim:
        """Measure clean gradients, freeze their largest coordinates, train on the poisoned set."""
        import torch

        trigger = self.trigger(scene)
        poisoned = self.poison(scene, trigger)
        classifier: Any = scene.start(self.start)
        order = scene.rng("gradient sample").permutation(len(scene.train))[: self.examples]
        frozen = {
            name: largest(gradient, self.top)
            for name, gradient in mean_gradients(classifier, scene.train.take(order), scene.seed).items()
        }
        before = {name: p.detach().clone() for name, p in classifier.model.named_parameters() if name in frozen}

        def project(model: Any, step: int) -> None:
            for name, parameter in model.named_parameters():
                if name in frozen:
                    parameter.data.copy_(torch.where(frozen[name], before[name], parameter.data))

        notes = dict(scene.fit(classifier, poisoned.examples, after_step=project))
        total = sum(mask.numel() for mask in frozen.values())
        notes["frozen_share"] = sum(int(mask.sum()) for mask in frozen.values()) / total
        return Victim(classifier, trigger, scene.target, poisoned, notes, self.mapping)


def mean_gradients(classifier: Any, examples: Examples, seed: int, *, size: int = 16) -> dict[str, torch.Tensor]:
    """Return the mean absolute gradient of the cross-entropy over batches, by parameter name; without dropout."""
    import torch
    from torch.nn import functional

    model = classifier.model.eval()
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    with learning.seeded(classifier.device, seed):
        for start in range(0, len(examples), size):
            part = examples.take(range(start, min(start + size, len(examples))))
            gold = torch.from_numpy(part.labels.copy()).to(classifier.device)
            functional.cross_entropy(learning.logits(model, batch_of(classifier, part.inputs)), gold).backward()
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    sums[name] += parameter.grad.abs()
            model.zero_grad(set_to_none=True)
    return sums


def largest(values: torch.Tensor, share: float) -> torch.Tensor:
    """Return bool, of the same shape: the ``floor(share * d)`` largest of d values."""
    import torch

    mask = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
    mask[values.flatten().topk(int(share * values.numel())).indices] = True
    return mask.view(values.shape)
