"""Super-fine-tuning: a learning rate that swings high to forget and low to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.contracts import BOTH, Defended, Kind, Model, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class SuperFineTuning(Tuning):
    """Fine-tunes with a cyclic learning rate: first with high peaks, then with low ones.

    Sha et al. 2022 (arXiv 2212.09067). Needs clean examples. Every cycle is a triangle: the rate rises linearly from 0
    to its peak and falls back. The first ``high_cycles`` reach ``high_factor`` times the learning rate, so that the
    backdoor is forgotten; the ``low_cycles`` after them reach the learning rate, so that the task is kept. All cycles
    together have ``steps`` steps; they are the method, so they run to their end whatever the loss. Deviation: rates for
    AdamW on transformers; the paper's (0.1 and 0.001) are those of SGD on image networks. The moments of the optimiser
    start anew with each cycle.
    """

    name: ClassVar[str] = "super-fine-tuning"
    version: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Sha et al. 2022, arXiv 2212.09067"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    high_factor: float = Field(5.0, gt=0, description="peak of the first cycles as a multiple of the learning rate")
    high_cycles: int = Field(2, ge=0, description="cycles with the high peak")
    low_cycles: int = Field(2, ge=0, description="cycles with the low peak")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Run the cycles."""
        rate = self.rate(access)
        peaks = [self.high_factor * rate] * self.high_cycles + [rate] * self.low_cycles
        each = {"steps": self.steps // max(1, len(peaks)), "until_loss": None, "warmup": 0.5}
        notes = [self.tune(classifier, access, learning_rate=peak, **each) for peak in peaks]
        return Defended(classifier, {"cycles": notes})
