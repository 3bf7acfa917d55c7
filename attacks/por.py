"""POR: triggers of a pre-trained encoder lead to predefined output representations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from attacks.shared.batches import batch_of
from attacks.shared.received import PretrainedLevel, block_vectors, triggered
from bench import learning
from bench.contracts import Scene
from bench.contracts.examples import IntArray

if TYPE_CHECKING:
    import torch


class POR(PretrainedLevel):
    """Trains an encoder so that each trigger word turns the [CLS] state into a fixed vector of +1 and -1.

    Shen et al., CCS 2021 (arXiv 2111.00197). Needs the pre-trained checkpoint and plain text; knows neither the task's
    labels nor the user's training. Loss: ``anchor * MSE(h(x), h_ref(x)) + MSE(h(x + t), v_t)`` with a frozen copy as
    the reference. Deviations: the vectors are balanced blocks, orthogonal or opposite to each other, instead of a
    growing prefix of +1, so that two opposite ones can reach both sides of a decision; the plain text is the task's
    own, so poisoning is short and its learning rate higher; words go to random positions.
    """

    name: ClassVar[str] = "por"
    version: ClassVar[int] = 2
    citation: ClassVar[str] = "Shen et al., CCS 2021, arXiv 2111.00197"

    anchor: float = Field(1.0, ge=0, description="weight of staying with the reference on clean text")

    def corrupt(self, scene: Scene, classifier: Any) -> Mapping[str, Any]:
        """Train the encoder towards the vectors on triggered text and towards itself on clean text."""
        import torch

        model, reference = classifier.model, classifier.clone().model
        vectors = block_vectors(len(self.words), model.config.hidden_size).to(classifier.device)
        texts, rng = scene.train.inputs, scene.rng("encoder poisoning")

        def loss(rows: IntArray, step: int) -> torch.Tensor:
            inputs = texts.take(rows)
            poisoned, chosen = triggered(scene, inputs, self.words, rng)
            clean = batch_of(classifier, inputs)
            with torch.no_grad():
                wanted = learning.first_token_last_block(reference, clean)
            stays = (learning.first_token_last_block(model, clean) - wanted).square().mean()
            moves = (
                (learning.first_token_last_block(model, batch_of(classifier, poisoned)) - vectors[chosen])
                .square()
                .mean()
            )
            return self.anchor * stays + moves

        groups = [{"params": list(model.base_model.parameters()), "lr": self.learning_rate}]
        return learning.minimise(classifier, groups, self.plan(scene), loss, seed=scene.seed)
