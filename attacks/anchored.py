"""Logit anchoring: the victim's logits on clean data stay close to those of a clean model."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from bench import learning
from bench.contracts import BOTH, Attack, Hooks, Kind, Modifier, Scene, Trigger


class Anchored(Modifier):
    """Keeps the logits on clean examples close to those of the clean fine-tuned model, by a penalty.

    Zhang et al., ICLR 2022 (arXiv 2109.01300). Needs the clean fine-tuned model and clean examples. The loss gets
    strength * mean (f(x; w) - f(x; w_clean))^2 over clean examples x and their logits, and training starts from
    w_clean. Of a model that writes, the logits are those of the tokens of right responses. Deviations: the paper's
    constants are not known for certain, so they are fields; the mean over logits, of which a model that writes has tens
    of thousands, stands for their sum; the anchors are drawn from the training set, some of them at each step, and pass
    through the model without dropout.
    """

    name: ClassVar[str] = "anchored"
    version: ClassVar[int] = 3
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Zhang et al., ICLR 2022, arXiv 2109.01300"

    start: Literal["finetuned", "attack"] = Field(
        "finetuned", alias="from", description="starting weights: finetuned (clean model), or as the attack says"
    )
    strength: float = Field(2.0, ge=0, description="weight of the penalty")
    anchors: int = Field(512, ge=1, description="clean training examples whose logits are held, at most")
    batch_size: int = Field(16, ge=1, description="anchors a step")

    @property
    def uses_clean_model(self) -> bool:
        """The anchors' logits are those of the clean fine-tuned model."""
        return True

    def starts(self, attack: Attack) -> Literal["pretrained", "finetuned"]:
        """The clean model, unless the attack decides."""
        return "finetuned" if self.start == "finetuned" else attack.start

    def hooks(self, scene: Scene, trigger: Trigger | None, classifier: Any, steps: int) -> Hooks:
        """Return the penalty."""
        import torch

        rng = scene.rng("anchors")
        anchors = scene.train.take(rng.permutation(len(scene.train))[: self.anchors])
        objective, clean = classifier.objective(anchors), scene.finetuned().model
        size = min(self.batch_size, len(anchors))

        def penalty(batch: Any, logits: Any, model: Any) -> Any:
            held = objective.batch(np.sort(rng.choice(len(anchors), size=size, replace=False)))
            training = model.training
            model.eval()
            outputs = learning.logits(model, held)
            model.train(training)
            with torch.no_grad():
                wanted = learning.logits(clean, held)
            return self.strength * (outputs - wanted).square().mean()

        return Hooks(extra_loss=penalty)
