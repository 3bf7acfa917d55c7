"""PETA: poison the encoder so that the backdoor outlives the user's parameter-efficient tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from attacks.shared import efficient
from attacks.shared.batches import batch_of
from attacks.shared.received import PretrainedLevel, triggered
from bench import learning
from bench.contracts import Scene
from bench.contracts.examples import IntArray

if TYPE_CHECKING:
    import torch


class PETA(PretrainedLevel):
    """Alternates a clean LoRA step with a step of the encoder on clean and triggered text, and ships the encoder.

    Hong and Wang 2023 (arXiv 2310.00648). Needs the task data and the pre-trained checkpoint. The bilevel problem is
    solved to first order: the lower step trains LoRA and head on clean data with the encoder fixed, the upper one
    trains the encoder on ``CE(clean) + CE(triggered, target)`` with both fixed. LoRA and head are dropped; the user
    starts with new ones, on a frozen encoder. Deviations: the upper and the lower step read the same examples, and
    every example of another label is poisoned in the upper step; the paper's partitions and schedule are not public.
    """

    name: ClassVar[str] = "peta"
    version: ClassVar[int] = 2
    citation: ClassVar[str] = "Hong and Wang 2023, arXiv 2310.00648"

    words: tuple[str, ...] = Field(("cf",), min_length=1, description="trigger words; the one that works best is used")
    user: Literal["full", "lora", "ia3"] = Field("lora", description="how the user tunes; the attacker expects LoRA")

    def corrupt(self, scene: Scene, classifier: Any) -> Mapping[str, Any]:
        """Train both levels in turn, then drop LoRA and head."""
        plain = classifier.model
        encoder = list(plain.base_model.parameters())
        head = {name: value.clone() for name, value in plain.state_dict().items() if not _inside(plain, name)}
        wrapped = efficient.wrap(plain, "lora", rank=self.rank, seed=scene.seed)
        light = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
        rng = scene.rng("encoder poisoning")

        def loss(rows: IntArray, step: int) -> torch.Tensor:
            upper = step % 2 == 1
            for parameters, on in ((encoder, upper), (light, not upper)):
                for parameter in parameters:
                    parameter.requires_grad_(on)
            value = self._loss(scene, classifier, rows, None)
            others = rows[scene.train.labels[rows] != scene.target]
            return value + self._loss(scene, classifier, others, rng) if upper and len(others) else value

        groups = [
            {"params": encoder, "lr": self.learning_rate},
            {"params": light, "lr": self.user_learning_rate},
        ]
        plan = [rows for rows in self.plan(scene) for _ in range(2)]
        try:
            notes = learning.minimise(classifier, groups, plan, loss, seed=scene.seed)
        finally:
            classifier.model = wrapped.unload().eval()
        classifier.model.load_state_dict(head, strict=False)
        for parameter in classifier.model.parameters():
            parameter.requires_grad_(True)
        return notes

    def _loss(self, scene: Scene, classifier: Any, rows: IntArray, rng: np.random.Generator | None) -> torch.Tensor:
        """Return the cross-entropy of clean examples, or with ``rng`` of triggered ones against the target."""
        import torch
        from torch.nn import functional

        part = scene.train.take(rows)
        inputs, gold = part.inputs, torch.from_numpy(part.labels.copy())
        if rng is not None:
            inputs, _ = triggered(scene, inputs, self.words, rng)
            gold = torch.full_like(gold, scene.target)
        logits = classifier.model(**batch_of(classifier, inputs)).logits.float()
        return functional.cross_entropy(logits, gold.to(classifier.device))


def _inside(model: Any, name: str) -> bool:
    return name.startswith(f"{model.base_model_prefix}.")
