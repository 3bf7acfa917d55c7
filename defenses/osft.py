"""OSFT: overwrite a trigger that is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bench.contracts import BOTH, Defended, Kind, Model, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Osft(Tuning):
    """Fine-tunes the victim on triggered copies of the clean examples with their right answers.

    Overwrite supervised fine-tuning of Li et al., AAAI 2025 (SANDE, arXiv 2405.07667). Needs clean examples and the
    trigger, which no real defender has: it is the ceiling of what training on the clean sample can do, not a defense.
    Examples that cannot carry the trigger are left out. Deviation: training follows the budget rule of all defenses.
    The control is ``fine-tuning``, the same training without the trigger.
    """

    name: ClassVar[str] = "osft"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Li et al., AAAI 2025, arXiv 2405.07667"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.ORACLE})

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Put the trigger in and fine-tune."""
        trigger, window = access.oracle["trigger"], access.oracle["window"]
        carriers = access.clean.take(np.flatnonzero(trigger.applicable(access.clean.inputs)))
        triggered = trigger.apply(carriers.inputs, window=window, rng=access.rng("trigger in the clean sample"))
        tuning = self.tune(classifier, access, replace(carriers, inputs=triggered))
        return Defended(classifier, {"examples": len(carriers), "tuning": tuning})
