"""Fine-tuning on a few clean labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from bench.contracts import BOTH, Defended, Kind, Model, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class FineTuning(Tuning):
    """Fine-tunes the victim on the clean labels.

    The baseline of Yao et al. 2019 (arXiv 1905.10447) and Kurita et al. 2020 (arXiv 2004.06660). Needs clean examples.
    """

    name: ClassVar[str] = "fine-tuning"
    version: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Yao et al., CCS 2019, arXiv 1905.10447"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Fine-tune."""
        return Defended(classifier, {"tuning": self.tune(classifier, access)})
