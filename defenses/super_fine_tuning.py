"""Super-fine-tuning: a learning rate that swings high to forget and low to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.contracts import Classifier, Defended, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class SuperFineTuning(Tuning):
    """Fine-tunes with a cyclic learning rate: first with high peaks, then with low ones.

    Sha et al. 2022 (arXiv 2212.09067). Needs clean examples. Every cycle is a triangle: the rate rises linearly from 0
    to its peak and falls back. The first ``high_cycles`` reach ``high_rate``, so that the backdoor is forgotten; the
    ``low_cycles`` after them reach ``learning_rate``, so that the task is kept. ``epochs`` counts one cycle.
    Deviation: rates for AdamW on transformers; the paper's (0.1 and 0.001) are those of SGD on image networks. The
    moments of the optimiser start anew with each cycle.
    """

    name: ClassVar[str] = "super-fine-tuning"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = "Sha et al. 2022, arXiv 2212.09067"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    epochs: int = Field(5, ge=0, description="passes over the clean sample in one cycle")
    high_rate: float = Field(5e-4, gt=0, description="peak learning rate of the first cycles")
    high_cycles: int = Field(2, ge=0, description="cycles with the high peak")
    low_cycles: int = Field(2, ge=0, description="cycles with the low peak")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Run the cycles."""
        peaks = [self.high_rate] * self.high_cycles + [self.learning_rate] * self.low_cycles
        notes = [self.model_copy(update={"learning_rate": peak}).tune(classifier, access, warmup=0.5) for peak in peaks]
        return Defended(classifier, {"cycles": notes})
