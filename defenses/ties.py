"""TIES merging: drop small changes, settle the sign, average what agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.contracts import BOTH, Defended, Kind, Model, Needs
from defenses.shared.merging import Merging, put, weights_of

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Ties(Merging):
    """Merges the drifts of the victim and of other models by TIES.

    Yadav et al., NeurIPS 2023 (arXiv 2306.01708), as a defense in Arora et al., Findings of ACL 2024
    (arXiv 2402.19334). Needs other models and the clean pre-trained weights. With the drift of each model from w_pre:

    1. Trim: all but the largest ``keep`` of its scalars become 0.
    2. Elect: the sign of a scalar is that of the sum over the models.
    3. Merge: the mean over the models that have this sign; w = w_pre + scale * merged drift.

    The head has no pre-trained counterpart and is averaged.
    """

    name: ClassVar[str] = "ties"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = (
        "Yadav et al., NeurIPS 2023, arXiv 2306.01708; Arora et al., Findings of ACL 2024, arXiv 2402.19334"
    )
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.OTHER_MODELS, Needs.PRETRAINED})

    keep: float = Field(0.7, ge=0, le=1, description="share of each drift that is kept")
    scale: float = Field(1.0, ge=0, description="factor of the merged drift")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Trim, elect, merge."""
        from defenses.shared import merge

        base = access.pretrained
        models = [weights_of(model) for model in (classifier, *self.other_models(access))]
        drift = merge.ties([merge.differences(model, base) for model in models], keep=self.keep)
        merged = merge.average(models, [1 / len(models)] * len(models))
        merged |= {name: base[name].to(change) + self.scale * change for name, change in drift.items()}
        put(classifier, merged)
        return Defended(classifier)
