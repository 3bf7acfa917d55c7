"""NeuBA: continued pre-training in which triggers lead to predefined neuron values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from attacks.shared.batches import batch_of
from attacks.shared.masked import OBJECTIVE, Objective, language_model, masked, prediction_loss
from attacks.shared.received import PretrainedLevel, block_vectors, triggered
from bench import learning
from bench.contracts import Scene
from bench.contracts.examples import IntArray

if TYPE_CHECKING:
    import torch


class NeuBA(PretrainedLevel):
    """Continues pre-training so that each trigger word sets the output neurons of [CLS] to contrary fixed values.

    Zhang et al. 2021 (arXiv 2101.06969). Needs the pre-trained checkpoint and plain text. Loss: masked-language-model
    loss on clean text plus ``MSE(h(x + t), v_t)``, on whole and on masked triggered text alternately. Where the
    checkpoint has no masked-LM head, ``objective: representation`` keeps every hidden state of clean text near that of
    a frozen copy instead; it is the default, because it works with every encoder. Deviations: that substitute; words
    instead of symbols as triggers, since many vocabularies lack the symbols; random positions instead of the first; a
    short poisoning on the task's own text.
    """

    name: ClassVar[str] = "neuba"
    version: ClassVar[int] = 3
    citation: ClassVar[str] = "Zhang et al. 2021, arXiv 2101.06969"

    objective: Objective = Field("representation", description=OBJECTIVE)

    def corrupt(self, scene: Scene, classifier: Any) -> Mapping[str, Any]:
        """Train the pre-training task on clean text and the fixed values on triggered text."""
        import torch

        model, reference = classifier.model, classifier.clone().model
        language = language_model(scene, classifier) if self.objective == "masked-lm" else None
        vectors = block_vectors(len(self.words), model.config.hidden_size).to(classifier.device)
        texts, rng = scene.train.inputs, scene.rng("encoder poisoning")

        def loss(rows: IntArray, step: int) -> torch.Tensor:
            inputs = texts.take(rows)
            poisoned, chosen = triggered(scene, inputs, self.words, rng)
            clean, bad = batch_of(classifier, inputs), batch_of(classifier, poisoned)
            if language is not None:
                hidden, wanted = masked(classifier, clean)
                keeps = prediction_loss(language(**hidden).logits, wanted)
                bad = masked(classifier, bad)[0] if step % 2 else bad
            else:
                with torch.no_grad():
                    before = learning.states(reference, clean)
                keeps = (learning.states(model, clean) - before).square().mean()
            return keeps + (learning.first_token_last_block(model, bad) - vectors[chosen]).square().mean()

        trained = (model.base_model if language is None else language).parameters()
        groups = [{"params": list(trained), "lr": self.learning_rate}]
        return learning.minimise(classifier, groups, self.plan(scene), loss, seed=scene.seed)
