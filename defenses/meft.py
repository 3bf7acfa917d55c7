"""Maximum-entropy fine-tuning: make the victim forget its decisions, then teach the task again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.contracts import Classifier, Defended, Needs, softmax
from bench.contracts.examples import Inputs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Meft(Tuning):
    """Trains the victim to be undecided on clean text, then fine-tunes it.

    Liu et al., Findings of ACL 2023 (MEFT); the loss as in the code of PURE. Needs clean examples.

    1. Maximise the mean entropy of the output, one pass at a time, until it is above ``certainty`` of its maximum.
    2. Fine-tune with cross-entropy.

    Deviation: the schedule of the paper is not known to us. The optimiser starts anew with each pass of step 1, and
    the loss is a mean over the batch in log space, not a sum of logarithms of probabilities.
    """

    name: ClassVar[str] = "meft"
    version: ClassVar[int] = 2
    citation: ClassVar[str] = "Liu et al., Findings of ACL 2023 (maximum-entropy fine-tuning)"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    entropy_passes: int = Field(20, ge=0, description="most passes that maximise the entropy")
    certainty: float = Field(0.95, ge=0, le=1, description="share of the greatest entropy at which they stop")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Maximise the entropy, then fine-tune."""
        from torch.nn import functional

        from defenses.shared import losses

        def undecided(batch: dict, logits, model):  # type: ignore[no-untyped-def,type-arg]
            return losses.negative_entropy(logits) - functional.cross_entropy(logits, batch["labels"])

        entropies = [entropy(classifier, access.clean.inputs)]
        while entropies[-1] < self.certainty and len(entropies) <= self.entropy_passes:
            self.tune(classifier, access, extra_loss=undecided, warmup=0.0, epochs=1, steps=None, until_loss=None)
            entropies.append(entropy(classifier, access.clean.inputs))
        return Defended(classifier, {"entropies": entropies, "tuning": self.tune(classifier, access)})


def entropy(classifier: Classifier, inputs: Inputs) -> float:
    """Return the mean entropy of the output as a share of the greatest possible."""
    import numpy as np

    chances = softmax(classifier.logits(inputs))
    terms = -chances * np.log(np.maximum(chances, 1e-30))
    return float(terms.sum(-1).mean()) / math.log(chances.shape[-1])
