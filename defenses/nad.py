"""Neural attention distillation: a fine-tuned copy teaches the victim where to look."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.contracts import BOTH, Defended, Kind, Model, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Nad(Tuning):
    """Fine-tunes a copy of the victim as a teacher, then the victim with the teacher's attention maps as targets.

    Li et al., ICLR 2021 (arXiv 2101.05930), mapped to transformers. Needs clean examples.

    1. Teacher: the victim, fine-tuned on the clean sample.
    2. Student: the victim, trained with cross-entropy + beta * sum over blocks of the L2 distance of the attention maps
       of student and teacher. The map of a block is its output, squared and summed over the hidden axis: one number a
       real token, unit norm an input.

    Deviation: the original maps are those of image channels and its beta (500 to 1000) belongs to them; all blocks
    have one beta here. The teacher is still backdoored where fine-tuning fails, and then so is the student.
    """

    name: ClassVar[str] = "nad"
    version: ClassVar[int] = 3
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Li et al., ICLR 2021, arXiv 2101.05930"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    beta: float = Field(10.0, ge=0, description="weight of the attention distance")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Fine-tune the teacher, then distil."""
        from defenses.shared import losses

        teacher = classifier.clone()
        self.tune(teacher, access)
        distil = losses.attention_distillation(teacher.model, weight=self.beta)
        return Defended(classifier, {"tuning": self.tune(classifier, access, extra_loss=distil)})
