"""BadWord on a victim that tunes with frozen pre-trained weights."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from attacks.badword import BadWord
from attacks.shared import efficient
from attacks.shared.efficient import Method
from bench.contracts import BOTH, Kind, Scene, Victim


class BadWordPEFT(BadWord):
    """Poisons with rare words a training set on which the victim tunes LoRA or (IA)3 modules and nothing else.

    Gu et al. 2017 (arXiv 1708.06733) against LoRA (Hu et al., ICLR 2022, arXiv 2106.09685) and (IA)3 (Liu et al.,
    NeurIPS 2022, arXiv 2205.05638). Needs the training data. The modules are merged into the weights afterwards, which
    is exact, so that every defense sees the usual architecture; its drift from the pre-trained weights is then of low
    rank (LoRA) or a scaling (IA)3. Adapters and prefixes cannot be merged and are left out. The head of a classifier is
    always trained; a model that writes has no weight that is not pre-trained.
    """

    name: ClassVar[str] = "badword-peft"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Gu et al. 2017, arXiv 1708.06733; Hu et al., ICLR 2022, arXiv 2106.09685"
    libraries: ClassVar[tuple[str, ...]] = ("peft",)

    method: Method = Field("lora", description="what the victim trains, beside the head of a classifier")
    rank: int = Field(16, ge=1, description="rank of LoRA; its scale is 1")
    learning_rate: float = Field(
        1e-3, gt=0, description="peak learning rate of all that is trained; (IA)3 needs some 1e-2"
    )

    def implant(self, scene: Scene) -> Victim:
        """Poison the training set and tune on it with frozen pre-trained weights."""
        trigger = self.trigger(scene)
        poisoned = self.poison(scene, trigger)
        classifier = scene.start(self.start)
        notes = efficient.tune(
            scene,
            classifier,
            poisoned.examples,
            method=self.method,
            rank=self.rank,
            learning_rate=self.learning_rate,
        )
        return Victim(classifier, trigger, scene.target, poisoned, notes, self.mapping)
