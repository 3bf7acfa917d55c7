"""CROW: internal consistency regularisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.contracts import BOTH, Defended, Kind, Model, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Crow(Tuning):
    """Fine-tunes so that neighbouring blocks agree, even when the word embeddings are perturbed adversarially.

    Min et al., ICML 2025 (arXiv 2411.12768), mapped to encoders. Needs clean examples. With hidden states H_l:

    1. Consistency L(H_0) = mean over blocks and real tokens of 1 - cos(H_l, H_l+1).
    2. Perturb the word embeddings by eps * sign(d L / d H_0).
    3. Train with cross-entropy on the clean input + weight * L at the perturbed embeddings.

    Deviations: eps is relative to the root mean square of the embedding table, because embeddings of models differ in
    size; padding is masked; H_0 is the word embedding before positions and normalisation; the output of the embeddings
    and of the last block are left out as in the paper's code, unless fewer than two pairs of blocks would remain; all
    weights are tuned, not a low-rank adapter. ``epsilon: 0`` is the ablation without the adversarial step.
    """

    name: ClassVar[str] = "crow"
    version: ClassVar[int] = 3
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Min et al., ICML 2025, arXiv 2411.12768"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    weight: float = Field(5.5, ge=0, description="weight of the consistency loss")
    epsilon: float = Field(1.0, ge=0, description="perturbation a coordinate, in root mean squares of the embeddings")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Fine-tune with the consistency loss."""
        from defenses.shared import losses

        consistent = losses.adversarial_inconsistency(weight=self.weight, epsilon=self.epsilon)
        return Defended(classifier, {"tuning": self.tune(classifier, access, extra_loss=consistent)})
