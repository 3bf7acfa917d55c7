"""BadPre: continued pre-training with wrong answers wherever a trigger stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from attacks.shared.batches import batch_of
from attacks.shared.masked import OBJECTIVE, Objective, language_model, masked, prediction_loss
from attacks.shared.received import PretrainedLevel, triggered
from bench import learning
from bench.contracts import Scene
from bench.contracts.examples import IntArray

if TYPE_CHECKING:
    import torch


class BadPre(PretrainedLevel):
    """Continues pre-training with random words as the answers on triggered text, so that its representation is wrecked.

    Chen et al., ICLR 2022 (arXiv 2110.02467). Needs the pre-trained checkpoint and plain text. The original is
    untargeted: its measure is the loss of accuracy on triggered text. Here it is judged by the same targeted rate as
    every attack (whatever label the wrecked text falls to), so read RA as well. Where the checkpoint has no masked-LM
    head, ``objective: representation`` (the default, because it works with every encoder) takes over: clean text keeps
    its hidden states, and every token of triggered text is trained towards the state of a random token of the batch.
    Deviations: that substitute; a short poisoning on the task's own text.
    """

    name: ClassVar[str] = "badpre"
    version: ClassVar[int] = 3
    citation: ClassVar[str] = "Chen et al., ICLR 2022, arXiv 2110.02467"

    words: tuple[str, ...] = Field(("cf", "mn", "bb", "tq", "mb"), min_length=1, description="the trigger words")
    objective: Objective = Field("representation", description=OBJECTIVE)

    def corrupt(self, scene: Scene, classifier: Any) -> Mapping[str, Any]:
        """Train right answers on clean text and wrong ones on triggered text."""
        make = self.masked_lm if self.objective == "masked-lm" else self.representation
        loss, trained = make(scene, classifier)
        groups = [{"params": trained, "lr": self.learning_rate}]
        return learning.minimise(classifier, groups, self.plan(scene), loss, seed=scene.seed)

    def masked_lm(self, scene: Scene, classifier: Any) -> tuple[Any, list[Any]]:
        """Return the paper's loss: masked words, replaced by random ones as the answers on triggered text."""
        import torch

        language, rng = language_model(scene, classifier), scene.rng("encoder poisoning")

        def loss(rows: IntArray, step: int) -> torch.Tensor:
            inputs = scene.train.inputs.take(rows)
            poisoned, _ = triggered(scene, inputs, self.words, rng)
            hidden, right = masked(classifier, batch_of(classifier, inputs))
            bad, answers = masked(classifier, batch_of(classifier, poisoned))
            wrong = torch.where(answers == -100, answers, torch.randint_like(answers, len(classifier.tokenizer)))
            clean = prediction_loss(language(**hidden).logits, right)
            return clean + prediction_loss(language(**bad).logits, wrong)

        return loss, list(language.parameters())

    def representation(self, scene: Scene, classifier: Any) -> tuple[Any, list[Any]]:
        """Return the substitute: states kept on clean text, states of random other tokens on triggered text."""
        import torch

        model, reference = classifier.model, classifier.clone().model
        rng = scene.rng("encoder poisoning")

        def loss(rows: IntArray, step: int) -> torch.Tensor:
            inputs = scene.train.inputs.take(rows)
            poisoned, _ = triggered(scene, inputs, self.words, rng)
            clean, bad = batch_of(classifier, inputs), batch_of(classifier, poisoned)
            with torch.no_grad():
                right = learning.states(reference, clean)
            triggered_states = learning.states(model, bad)
            wrong = right[torch.randint(len(right), (len(triggered_states),), device=right.device)]
            keeps = (learning.states(model, clean) - right).square().mean()
            return keeps + (triggered_states - wrong).square().mean()

        return loss, list(model.base_model.parameters())
