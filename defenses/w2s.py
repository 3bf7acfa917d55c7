"""W2SDefense: a weak clean teacher guides low-rank tuning of the victim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from bench import learning, seeds
from bench.contracts import BOTH, Defended, Kind, Model, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class W2s(Tuning):
    """Tunes low-rank adapters of the victim on clean examples, with a weak clean teacher's logits and features.

    Zhao et al., Findings of ACL 2025 (arXiv 2410.14425). Needs clean examples and the clean pre-trained weights.

    1. Teacher: the lowest ``teacher_layers`` blocks of the clean pre-trained encoder with a new head, fine-tuned on the
       clean sample.
    2. Student: the victim; adapters on every linear layer of its blocks and the head are trained with
       CE + kl_weight * T^2 * KL(teacher || student) + feature_weight * mean squared difference of the last states of
       the first token. Then the adapters are merged. Of a model that writes, logits and states are those in front of
       the tokens of responses, and what it writes words with is no head and stays.

    Deviations: the paper's losses are weighted 5 : 0.001 : 0.001; they are divided by 5 here. Teacher and student have
    one hidden size, so no projection is needed; the teacher is the same encoder cut short and the clean sample is a
    few examples, where the paper has a full training set; there is no dropout on the adapter's input; rank 512 is cut
    to the smaller side of a weight. The control of the paper's effect is ``w2s(kl_weight=0, feature_weight=0)``: plain
    low-rank tuning.
    """

    name: ClassVar[str] = "w2s"
    version: ClassVar[int] = 4
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Zhao et al., Findings of ACL 2025, arXiv 2410.14425"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.PRETRAINED})

    learning_rate: float | None = Field(2e-4, gt=0, description="peak learning rate of AdamW for the student")
    rank: int | None = Field(512, ge=1, description="rank of the adapters; none tunes all weights")
    alpha: float = Field(512.0, gt=0, description="the adapters are scaled by alpha / rank")
    kl_weight: float = Field(0.0002, ge=0, description="weight of the divergence from the teacher's logits")
    feature_weight: float = Field(0.0002, ge=0, description="weight of the difference from the teacher's features")
    temperature: float = Field(2.0, gt=0, description="temperature of the logits")
    teacher_layers: int | None = Field(None, ge=1, description="blocks of the teacher; half of them when not given")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Train the teacher, then the student's adapters."""
        from torch import nn

        from defenses.shared import adapters, losses

        teacher, learned = self.teacher(classifier, access)
        guide = losses.distillation(
            teacher.model,
            logits_weight=self.kl_weight,
            features_weight=self.feature_weight,
            temperature=self.temperature,
        )
        notes: dict[str, Any] = {"teacher": learned}
        if self.rank is None:
            return Defended(classifier, {**notes, "tuning": self.tune(classifier, access, extra_loss=guide)})
        model = classifier.model
        layers = [part for part in learning.blocks(model).modules() if isinstance(part, nn.Linear)]
        seed = seeds.derive("adapters", access.seed)
        adapters.adapt(model, rank=self.rank, alpha=self.alpha, seed=seed, layers=layers)
        notes["tuning"] = self.tune(
            classifier, access, extra_loss=guide, trainable=lambda name: adapters.trainable(model, name)
        )
        adapters.merge(model)
        return Defended(classifier, notes)

    def teacher(self, classifier: Model, access: Access) -> tuple[Model, dict[str, Any]]:
        """Return the teacher, the lower part of the pre-trained encoder, fine-tuned; and notes."""
        from defenses.shared import encoder

        teacher: Model = encoder.restart(classifier, access.pretrained, seed=seeds.derive("teacher", access.seed))
        layers = learning.blocks(teacher.model)
        kept = max(1, len(layers) // 2) if self.teacher_layers is None else min(self.teacher_layers, len(layers))
        del layers[kept:]
        teacher.model.config.num_hidden_layers = kept
        return teacher, self.tune(teacher, access, learning_rate=access.budget.learning_rate)
