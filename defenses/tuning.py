"""Fine-tuning on the clean sample, the step that many defenses end with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import learning
from bench.contracts import Classifier, Defense

if TYPE_CHECKING:
    from bench.access import Access


class Tuning(Defense):
    """Hyper-parameters of fine-tuning on the clean sample. Not a defense by itself."""

    epochs: int = Field(20, ge=0, description="passes over the clean sample")
    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate of AdamW")
    batch_size: int = Field(16, ge=1, description="examples a step")

    def tune(self, classifier: Classifier, access: Access, **options: Any) -> dict[str, Any]:
        """Fine-tune in place on the clean sample and return notes, without those that differ from run to run."""
        notes = learning.train(
            classifier,
            access.clean,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            seed=access.seed,
            precision=access.precision,
            **options,
        )
        return {name: value for name, value in notes.items() if name != "seconds"}
