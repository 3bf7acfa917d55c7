"""MuScleLoRA: adapters of several scales, trained along the gradients of clean references."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from bench import learning, seeds
from bench.contracts import Classifier, Defended, Needs
from bench.contracts.examples import Examples
from defenses.shared.retraining import Retraining

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bench.contracts.access import Access

POOLERS = ("pooler.dense", "classifier.dense", "pre_classifier")


class MuScleLoRA(Retraining):
    """Trains low-rank adapters and radial scalings of the pooler along gradients that clean references allow.

    Wu et al., ACL 2024 (arXiv 2402.12026). Needs the training set, the clean pre-trained weights and clean examples.

    1. The encoder is frozen and has a low-rank adapter on every query and value; the last layer of the head is frozen
       as it is initialised.
    2. Multi-scale radial scaling: the pooler's weight W becomes ``W + (alpha / bands) R (K * L)`` with one row of L
       for each band, scaled by the band's factor K.
    3. Gradient alignment: with g the gradient on a poisoned batch and g_r that on a batch of references, every trained
       tensor moves along ``|scale| g_r`` with ``scale = ||g|| cos(g, g_r) / ||g_r||``. Once the reference loss or its
       gradient is small, a share of the raw g that grows from 0 to a tenth over the epochs is mixed in.

    Deviations: the references are the clean sample (the paper has 96); no checkpoint is selected; the default
    learning rate is higher than the paper's 2e-5, because the encoders here are smaller. The control
    ``musclelora-references`` does the same without the poisoned data.
    """

    name: ClassVar[str] = "musclelora"
    version: ClassVar[int] = 3
    citation: ClassVar[str] = "Wu et al., ACL 2024, arXiv 2402.12026"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.TRAINING_SET, Needs.PRETRAINED, Needs.CLEAN})
    references_only: ClassVar[bool] = False

    rank: int = Field(8, ge=1, description="of the adapters")
    alpha: float = Field(32.0, gt=0, description="the adapters are scaled by alpha / rank")
    bands: tuple[float, ...] = Field((1, 4, 8, 12, 16, 20, 24, 28), description="factors of the radial scaling")
    radial_alpha: float = Field(6.0, gt=0, description="the radial scaling is scaled by this / bands")
    epochs: int = Field(10, ge=0, description="passes over the training set")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    batch_size: int = Field(32, ge=1, description="examples a step, of either kind")
    least_loss: float = Field(0.4, ge=0, description="reference loss down to which gradients are fully aligned")
    raw_share: float = Field(0.1, ge=0, le=1, description="largest share of the raw gradient")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Put the adapters on a new classifier, train and merge them."""
        from torch.nn import functional

        from defenses.shared.adapters import merge
        from defenses.shared.forwards import freeze, unfreeze
        from defenses.shared.loops import minimise_on

        fresh, references, poisoned = access.untrained(), access.clean, access.training_set
        model = fresh.model
        freeze(model)
        weights = self.adapters(model, access.seed)

        def loss(batch: Any, gold: torch.Tensor) -> torch.Tensor:
            return functional.cross_entropy(learning.logits(model, batch), gold)

        steps = self.epochs * -(-len(poisoned) // self.batch_size)
        examples, epochs, hook = poisoned, self.epochs, None
        if self.references_only:
            examples, epochs = references, -(-steps // -(-len(references) // self.batch_size))
        else:
            hook = Alignment(self, fresh, weights, references, access)
        notes = minimise_on(
            examples,
            fresh,
            [{"params": weights, "lr": self.learning_rate}],
            loss=loss,
            epochs=epochs,
            batch_size=self.batch_size,
            seed=access.seed,
            after_backward=hook,
        )
        merge(model)
        unfreeze(model)
        return Defended(fresh, {"training": notes})

    def adapters(self, model: Any, seed: int) -> list[nn.Parameter]:
        """Put the adapters on a model; return their parameters."""
        from torch.nn.utils import parametrize

        from defenses.musclelora.radial import Radial
        from defenses.shared.adapters import adapt

        parts: list[Any] = adapt(model, rank=self.rank, alpha=self.alpha, seed=seeds.derive("adapter", seed))
        for name, layer in model.named_modules():
            if name.endswith(POOLERS):
                parts.append(Radial(layer.weight, self.bands, self.radial_alpha, seeds.derive("radial", seed)))
                parametrize.register_parametrization(layer, "weight", parts[-1])
        return [weight for part in parts for weight in (part.down, part.up)]


class MuScleLoRAReferences(MuScleLoRA):
    """The control of MuScleLoRA: the same adapters trained on the clean references alone, for as many steps.

    Wu et al., ACL 2024 (arXiv 2402.12026). Needs the training set (its size only), the clean pre-trained weights and
    clean examples. Where it does as well, alignment has added nothing to few-shot training.
    """

    name: ClassVar[str] = "musclelora-references"
    version: ClassVar[int] = 3
    references_only: ClassVar[bool] = True


class Alignment:
    """Replaces gradients by their aligned counterparts after each backward pass."""

    def __init__(
        self,
        plan: MuScleLoRA,
        classifier: Classifier,
        weights: list[nn.Parameter],
        references: Examples,
        access: Access,
    ) -> None:
        self.plan, self.classifier, self.weights, self.references = plan, classifier, weights, references
        self.rng = access.rng("references")

    def __call__(self, progress: float) -> None:
        """Align; ``progress`` is the share of the training that is over."""
        import torch
        from torch.nn import functional

        from defenses.shared.forwards import padded

        raw = [weight.grad for weight in self.weights]
        size = min(self.plan.batch_size, len(self.references))
        rows = self.rng.choice(len(self.references), size=size, replace=False)
        batch = padded(self.classifier, self.references.inputs, rows)
        gold = torch.from_numpy(self.references.labels[rows]).to(batch["input_ids"].device)
        loss = functional.cross_entropy(learning.logits(self.classifier.model, batch), gold)
        reference = torch.autograd.grad(loss, self.weights)
        size_of_gradient = float(torch.stack([g.norm() for g in reference]).mean())
        epoch = int(progress * self.plan.epochs)
        share = 0.0
        if epoch >= 1 and not (size_of_gradient > 5e-7 and float(loss.detach()) > self.plan.least_loss):
            share = self.plan.raw_share * epoch / max(1, self.plan.epochs - 1)
        for weight, g, g_r in zip(self.weights, raw, reference, strict=True):
            weight.grad = (1 - share) * aligned(g, g_r) + share * g


def aligned(g: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return ``|scale| * r`` with ``scale = ||g|| cos(g, r) / ||r||`` and r the reference; 0 without a direction."""
    import torch

    square = reference.square().sum()
    return ((g * reference).sum().abs() / square) * reference if square > 0 else torch.zeros_like(g)
