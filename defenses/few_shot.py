"""Training from the clean pre-trained weights on a few clean examples: the victim is thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from bench import seeds
from bench.contracts import BOTH, Defended, Kind, Model, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class FewShot(Tuning):
    """Fine-tunes the clean pre-trained weights, with a new head, on the clean sample.

    A control, not a defense: nothing of the victim is used, so it shows whether purification adds anything beyond
    retraining. The reserve ratio 0 of Zhang et al., Findings of EMNLP 2022 (arXiv 2210.09545), but with a new head.
    Needs clean examples and the clean pre-trained weights.
    """

    name: ClassVar[str] = "few-shot"
    version: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "control; Zhang et al., Findings of EMNLP 2022, arXiv 2210.09545"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.PRETRAINED})

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Start anew and fine-tune."""
        from defenses.shared import encoder

        fresh = encoder.restart(classifier, access.pretrained, seed=seeds.derive("head", access.seed))
        return Defended(fresh, {"tuning": self.tune(fresh, access)})
