"""Moderate fitting: too little capacity, or too little time, for the backdoor."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench import learning, seeds
from bench.contracts import Classifier, Defended
from defenses.shared.retraining import Retraining, trained

if TYPE_CHECKING:
    import torch

    from bench.contracts.access import Access
    from defenses.shared.forwards import Batch


class ModerateFitting(Retraining):
    """Trains low-rank adapters whose weights all come out of one tiny network, so that only the main task fits in.

    Zhu et al., NeurIPS 2022 (Moderate-fitting as a Natural Backdoor Defender for Pre-trained Language Models). Needs
    the training set and the clean pre-trained weights. The encoder is frozen. All ``down`` factors of the adapters are
    the output of one network (a free vector, a linear layer, tanh, a linear layer to all values), all ``up`` factors
    that of a second one whose free vector starts at zero, so the adapters start at zero. The networks and the head are
    trained on the suspicious set.

    Deviations: only the low-rank form; the head is an ordinary classification head. The other two limits of the paper,
    few epochs and a low learning rate, are ``moderate-fitting-early``.
    """

    name: ClassVar[str] = "moderate-fitting"
    version: ClassVar[int] = 3
    citation: ClassVar[str] = "Zhu et al., NeurIPS 2022"

    rank: int = Field(8, ge=1, description="of the adapters")
    alpha: float = Field(8.0, gt=0, description="the adapters are scaled by alpha / rank")
    width: int = Field(2, ge=1, description="length of the free vector and of the hidden layer")
    epochs: int = Field(10, ge=0, description="passes over the training set")
    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate")
    batch_size: int = Field(32, ge=1, description="examples a step")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Train the generators on a new classifier and merge what they generate."""
        import torch
        from torch.nn import functional

        from defenses.moderate_fitting.generated import Generated
        from defenses.shared.adapters import adapt, merge
        from defenses.shared.forwards import device_of, freeze, unfreeze
        from defenses.shared.loops import minimise_on

        fresh = access.untrained()
        model = fresh.model
        freeze(model)
        adapters = adapt(model, rank=self.rank, alpha=self.alpha, seed=0)
        generated = Generated(adapters, self.width, seeds.derive("generator", access.seed)).to(device_of(model))
        head = [p for part in learning.head_modules(model) for p in part.parameters()]
        for parameter in head:
            parameter.requires_grad_(True)

        def loss(batch: Batch, gold: torch.Tensor) -> torch.Tensor:
            generated.place()
            return functional.cross_entropy(learning.logits(model, batch), gold)

        notes = minimise_on(
            access.training_set,
            fresh,
            [{"params": [*generated.parameters(), *head], "lr": self.learning_rate}],
            loss=loss,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=access.seed,
        )
        with torch.no_grad():
            generated.place()
        merge(model)
        unfreeze(model)
        return Defended(fresh, {"training": notes})


class ModerateFittingEarly(Retraining):
    """Trains on the suspicious set for few epochs at a low learning rate, before the backdoor is learned.

    Zhu et al., NeurIPS 2022 (Moderate-fitting as a Natural Backdoor Defender for Pre-trained Language Models). Needs
    the training set and the clean pre-trained weights.
    """

    name: ClassVar[str] = "moderate-fitting-early"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = "Zhu et al., NeurIPS 2022"

    epochs: int = Field(1, ge=0, description="passes over the training set")
    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Train a little."""
        model, notes = trained(access, access.training_set, epochs=self.epochs, learning_rate=self.learning_rate)
        return Defended(model, {"training": notes})
