"""DPoE: a shallow model takes the shortcuts, so that the main model need not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from bench import learning, seeds
from bench.contracts import Classifier, Defended
from defenses.shared.retraining import Retraining

if TYPE_CHECKING:
    import torch

    from bench.contracts.access import Access
    from defenses.shared.forwards import Batch


class DPoE(Retraining):
    """Trains the main model in a product of experts with a shallow one that learns the shortcuts first.

    Liu et al., NAACL 2024 (arXiv 2305.14910). Needs the training set and the clean pre-trained weights. The shallow
    expert is the same encoder cut behind its first blocks, with a head of its own. Both are trained on

    1. the cross-entropy of ``softmax(log p_main + alpha * log p_shallow)``, and
    2. R-drop against noisy labels: half the symmetric KL divergence between two passes of the main model with
       different dropout, averaged over batch and classes as in the authors' code.

    The main model answers alone. Deviations: epochs, batch size and the main learning rate are the victim's; the
    shallow one's is four times as high, as in the authors' script; hyper-parameters are fixed instead of chosen on a
    pseudo development set.
    """

    name: ClassVar[str] = "dpoe"
    version: ClassVar[int] = 3
    citation: ClassVar[str] = "Liu et al., NAACL 2024, arXiv 2305.14910"

    blocks: int = Field(3, ge=1, description="transformer blocks of the shallow expert")
    alpha: float = Field(1.0, ge=0, description="weight of the shallow expert in the product")
    temperature: float = Field(1.0, gt=0, description="of the shallow expert's probabilities")
    rdrop: float = Field(3.0, ge=0, description="weight of R-drop; 0 leaves the second pass out")
    rate_ratio: float = Field(4.0, gt=0, description="learning rate of the shallow expert over that of the main model")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Train both experts; return the main one."""
        from defenses.shared.loops import minimise_on

        main, shallow = access.untrained(), access.untrained()
        learning.reinitialise_head(shallow, seed=seeds.derive("shallow head", access.seed))
        depth = cut(shallow.model, self.blocks)
        budget = access.budget

        def loss(batch: Batch, gold: torch.Tensor) -> torch.Tensor:
            first = learning.logits(main.model, batch)
            value = product_loss(first, learning.logits(shallow.model, batch), gold, self.alpha, self.temperature)
            if self.rdrop:
                value = value + self.rdrop * symmetric_kl(first, learning.logits(main.model, batch))
            return value

        shallow.model.train()
        notes: dict[str, Any] = minimise_on(
            access.training_set,
            main,
            [
                {"params": list(main.model.parameters()), "lr": budget.learning_rate},
                {"params": list(shallow.model.parameters()), "lr": self.rate_ratio * budget.learning_rate},
            ],
            loss=loss,
            epochs=budget.epochs,
            batch_size=budget.batch_size,
            seed=access.seed,
            warmup=budget.warmup,
            weight_decay=self.weight_decay,
            max_grad_norm=budget.max_grad_norm,
        )
        return Defended(main, {"shallow_blocks": depth, "training": notes})


def cut(model: Any, blocks: int) -> int:
    """Keep only the first transformer blocks of a model, in place; return how many there are."""
    layers = learning.blocks(model)
    depth = min(blocks, len(layers))
    del layers[depth:]
    model.config.num_hidden_layers = depth
    return depth


def product_loss(
    main: torch.Tensor, shallow: torch.Tensor, gold: torch.Tensor, alpha: float, temperature: float
) -> torch.Tensor:
    """Return the cross-entropy of the product of two experts, given their logits."""
    from torch.nn import functional

    joint = main.log_softmax(-1) + alpha * (shallow / temperature).log_softmax(-1)
    return functional.cross_entropy(joint, gold)


def symmetric_kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return half of KL(p || q) + KL(q || p), averaged over batch and classes."""
    p, q = first.log_softmax(-1), second.log_softmax(-1)
    return ((p.exp() - q.exp()) * (p - q)).mean() / 2
