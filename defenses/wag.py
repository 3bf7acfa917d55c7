"""WAG: average the victim with other models."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.contracts import BOTH, Defended, Kind, Model, Needs
from defenses.shared.merging import Merging, put, weights_of

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Wag(Merging):
    """Averages all weights of the victim and of other models of the task, the head included.

    Arora et al., Findings of ACL 2024 (arXiv 2402.19334). Needs other models that were fine-tuned from the same
    pre-trained weights, and no data. Controls: ``victim_share: 0`` is the others alone. Deviation: the others are
    trained by the suite; ``models``, ``data`` and ``head`` say what is known of them.
    """

    name: ClassVar[str] = "wag"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Arora et al., Findings of ACL 2024, arXiv 2402.19334"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.OTHER_MODELS})

    victim_share: float | None = Field(
        None, ge=0, le=1, description="weight of the victim; that of any other by default"
    )

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Average."""
        from defenses.shared import merge

        others = self.other_models(access)
        own = 1 / (len(others) + 1) if self.victim_share is None else self.victim_share
        shares = [own, *[(1 - own) / len(others)] * len(others)]
        put(classifier, merge.average([weights_of(model) for model in (classifier, *others)], shares))
        return Defended(classifier, {"shares": shares})
