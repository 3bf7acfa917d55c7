"""Training on the clean labels, the step that many defenses end with: one budget rule for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import learning
from bench.contracts import Defense, Examples, Model

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Tuning(Defense):
    """Hyper-parameters of training on the clean labels. Not a defense by itself.

    Everyone who trains, control or not, trains alike: at the victim's own learning rate, until the mean loss of a pass
    over the labels is below ``until_loss``, for ``steps`` steps at most. Steps are counted, not passes, so that the
    number of labels and the amount of training are two things.
    """

    learning_rate: float | None = Field(None, gt=0, description="peak learning rate of AdamW; the victim's by default")
    batch_size: int = Field(16, ge=1, description="examples a step")
    steps: int = Field(200, ge=0, description="most steps; the rate rises over a tenth of them, then falls to 0")
    until_loss: float = Field(0.05, ge=0, description="stop after a pass over the labels whose mean loss is below this")

    def tune(
        self,
        classifier: Model,
        access: Access,
        examples: Examples | None = None,
        *,
        extra_loss: Callable[[Any, Any, Any], Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Train in place and return notes, without those that differ from run to run.

        Args:
            classifier: the model.
            access: of the defense.
            examples: labels to train on; all that the defense may see by default.
            extra_loss: as of :func:`bench.learning.train`, but its passes are in the classifier's arithmetic.
            options: of :func:`bench.learning.train`, also instead of the fields.
        """
        settings = {
            "steps": self.steps,
            "until_loss": self.until_loss,
            "learning_rate": self.rate(access),
            "batch_size": self.batch_size,
            "seed": access.seed,
            "precision": access.precision,
            "extra_loss": None if extra_loss is None else in_arithmetic(classifier, extra_loss),
            **options,
        }
        notes = learning.train(classifier, access.clean if examples is None else examples, **settings)
        return {name: value for name, value in notes.items() if name != "seconds"}

    def rate(self, access: Access) -> float:
        """Return the peak learning rate: the field, or the victim's."""
        return access.budget.learning_rate if self.learning_rate is None else self.learning_rate


def in_arithmetic(classifier: Model, loss: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """Return the loss, computed as the classifier computes: bf16 where its device does so natively."""
    from defenses.shared.forwards import arithmetic

    def computed(batch: Any, logits: Any, model: Any) -> Any:
        with arithmetic(classifier):
            return loss(batch, logits, model)

    return computed
