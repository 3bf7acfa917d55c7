"""DARE: drop most of each model's changes at random before averaging."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench import seeds
from bench.contracts import BOTH, Defended, Kind, Model, Needs
from defenses.shared.merging import Merging, put, weights_of

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Dare(Merging):
    """Drops scalars of each model's drift at random, scales up the rest, and averages the models.

    Yu et al., ICML 2024 (arXiv 2311.03099), as a defense in Arora et al., Findings of ACL 2024 (arXiv 2402.19334).
    Needs other models and the clean pre-trained weights. Each scalar of the drift of a model from w_pre is dropped with
    probability p, else divided by 1 - p; w = w_pre + mean drift. The head has no pre-trained counterpart and is
    averaged. ``drop: 0`` is WAG.
    """

    name: ClassVar[str] = "dare"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = (
        "Yu et al., ICML 2024, arXiv 2311.03099; Arora et al., Findings of ACL 2024, arXiv 2402.19334"
    )
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.OTHER_MODELS, Needs.PRETRAINED})

    drop: float = Field(0.5, ge=0, lt=1, description="share of each drift that is dropped")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Drop, scale, average."""
        import torch

        from defenses.shared import merge

        base = access.pretrained
        models = [weights_of(model) for model in (classifier, *self.other_models(access))]
        generator = torch.Generator().manual_seed(seeds.derive("drop", access.seed))
        vectors = [merge.dare(merge.differences(m, base), drop=self.drop, generator=generator) for m in models]
        equal = [1 / len(models)] * len(models)
        drift, merged = merge.average(vectors, equal), merge.average(models, equal)
        merged |= {name: base[name].to(change) + change for name, change in drift.items()}
        put(classifier, merged)
        return Defended(classifier)
