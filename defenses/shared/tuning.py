"""Fine-tuning on the clean sample, the step that many defenses end with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import learning
from bench.contracts import Classifier, Defense

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Tuning(Defense):
    """Hyper-parameters of fine-tuning on the clean sample. Not a defense by itself."""

    epochs: int = Field(20, ge=0, description="passes over the clean sample")
    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate of AdamW")
    batch_size: int = Field(16, ge=1, description="examples a step")

    def tune(
        self,
        classifier: Classifier,
        access: Access,
        *,
        extra_loss: Callable[[Any, Any, Any], Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Fine-tune in place on the clean sample and return notes, without those that differ from run to run.

        Args:
            classifier: the model.
            access: of the defense.
            extra_loss: as of :func:`bench.learning.train`, but its passes are in the classifier's arithmetic.
            options: of :func:`bench.learning.train`, also instead of the fields.
        """
        settings = {
            "epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
            "seed": access.seed,
            "precision": access.precision,
            "extra_loss": None if extra_loss is None else in_arithmetic(classifier, extra_loss),
            **options,
        }
        notes = learning.train(classifier, access.clean, **settings)
        return {name: value for name, value in notes.items() if name != "seconds"}


def in_arithmetic(classifier: Classifier, loss: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """Return the loss, computed as the classifier computes: bf16 where its device does so natively."""
    from defenses.shared.forwards import arithmetic

    def computed(batch: Any, logits: Any, model: Any) -> Any:
        with arithmetic(classifier):
            return loss(batch, logits, model)

    return computed
