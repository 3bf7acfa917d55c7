"""Obliviate: tune an adapter that drowns out a backdoor in the frozen encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from bench import learning, seeds
from bench.contracts import Classifier, Defended, Defense, Needs

if TYPE_CHECKING:
    import torch

    from bench.contracts.access import Access
    from defenses.shared.forwards import Batch


class Obliviate(Defense):
    """Tunes a low-rank adapter with amplified weights and flattened attention of the first token on clean examples.

    Kim et al., Findings of NAACL 2025 (arXiv 2409.14119). Needs clean examples. The encoder stays frozen; adapter and
    head minimise ``CE - a * sum over adapter tensors ||theta||_2 + r * mean over layers, heads and batch of
    ||attention of the first token||_2``: the adapter's neurons grow until they outweigh the backdoor's, and the first
    token attends to nothing in particular, so neither to a trigger.

    It belongs to parameter-efficient tuning: the paper's user receives a poisoned *pre-trained* encoder and tunes an
    adapter and a new head on all the training data. How that maps to this benchmark: the frozen encoder is that of the
    fine-tuned model, the data are the clean sample, the head is the victim's or a new one, and in the end the adapter
    is merged into the query and value weights, so the result is a plain classifier. It is therefore a purification
    of weights and no filter. Deviations: adapters on query and value only; the coefficients are those of the paper's
    bottleneck adapter, those of low-rank ones are not known. All ``steps`` are done, as the loss has no lower bound.
    """

    name: ClassVar[str] = "obliviate"
    version: ClassVar[int] = 5
    citation: ClassVar[str] = "Kim et al., Findings of NAACL 2025, arXiv 2409.14119"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    rank: int = Field(16, ge=1, description="of the adapter")
    alpha: float = Field(16.0, gt=0, description="the adapter is scaled by alpha / rank")
    amplify: float = Field(3e-3, ge=0, description="weight of the norm of the adapter")
    flatten: float = Field(3e-2, ge=0, description="weight of the norm of the first token's attention")
    steps: int = Field(200, ge=0, description="steps on the clean labels")
    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate")
    batch_size: int = Field(16, ge=1, description="examples a step")
    fresh_head: bool = Field(False, description="draw the head anew, as behind a pre-trained encoder")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Tune and merge."""
        import torch
        from torch.nn import functional

        from defenses.shared import encoder
        from defenses.shared.adapters import adapt, merge
        from defenses.shared.forwards import freeze, unfreeze
        from defenses.shared.loops import minimise_on

        model = classifier.model
        if self.fresh_head:
            learning.reinitialise_head(classifier, seed=seeds.derive("head", access.seed))
        freeze(model)
        adapters = adapt(model, rank=self.rank, alpha=self.alpha, seed=seeds.derive("adapter", access.seed))
        weights = [weight for adapter in adapters for weight in (adapter.down, adapter.up)]
        head = [p for part in learning.head_modules(model) for p in part.parameters()]
        for parameter in head:
            parameter.requires_grad_(True)

        def loss(batch: Batch, gold: torch.Tensor) -> torch.Tensor:
            states, logits = learning.block_states(model, batch)
            size = torch.stack([weight.norm() for weight in weights]).sum()
            flat = encoder.cls_attention(model, states[:-1], batch["attention_mask"]).norm(dim=-1).mean()
            return functional.cross_entropy(logits, gold) - self.amplify * size + self.flatten * flat

        notes: dict[str, Any] = minimise_on(
            access.clean,
            classifier,
            [{"params": [*weights, *head], "lr": self.learning_rate}],
            loss=loss,
            steps=self.steps,
            batch_size=self.batch_size,
            seed=access.seed,
            warmup=0.05,
        )
        merge(model)
        unfreeze(model)
        return Defended(classifier, {"tuning": notes})
