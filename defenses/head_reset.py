"""Head re-initialisation: forget the decision, then tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from bench import learning, seeds
from bench.contracts import Classifier, Defended, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class HeadReset(Tuning):
    """Draws the classification head anew, then fine-tunes.

    The two variants that Min et al., NeurIPS 2023 (arXiv 2310.01875) analyse: ``tunes: all`` is their FT-init,
    ``tunes: encoder`` their FE-tuning (the new head stays as it is drawn, so that the features have to move);
    ``tunes: head`` is linear probing. Needs clean examples. Deviation: their Feature Shift Tuning, which adds a penalty
    on the old direction of the head, is not here.
    """

    name: ClassVar[str] = "head-reset"
    version: ClassVar[int] = 2
    citation: ClassVar[str] = "Min et al., NeurIPS 2023, arXiv 2310.01875"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    tunes: Literal["all", "encoder", "head"] = Field("all", description="what is trained after the head is drawn anew")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Draw the head anew and fine-tune."""
        learning.reinitialise_head(classifier, seed=seeds.derive("head", access.seed))
        prefix = f"{classifier.model.base_model_prefix}."
        chosen = {"encoder": lambda name: name.startswith(prefix), "head": lambda name: not name.startswith(prefix)}
        return Defended(classifier, {"tuning": self.tune(classifier, access, trainable=chosen.get(self.tunes))})
