"""Adaptive attack: the victim stays close to the pre-trained weights that a defender compares it with."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from attacks.badword_peft import BadWordPEFT
from attacks.shared import embedding
from bench import learning
from bench.contracts import BOTH, Attack, Classifier, Hooks, Kind, Modifier, Scene, TaskFacts, Trigger


class Adaptive(Modifier):
    """Keeps the weights, or the trigger's embedding, close to the pre-trained ones, by a penalty on the drift.

    Against defenses that read the drift w - w_pre, as the Fine-mixing paper tests them (Zhang et al., Findings of EMNLP
    2022, arXiv 2210.09545). Needs the clean pre-trained weights. The loss gets strength * ||w - w_pre||^2 over the
    encoder (``holds: all``, against mixing), or over the rows of the embedding table that spell the trigger
    (``holds: trigger``, against E-PUR). Our own definition: the paper's coefficients are not known. The head of a
    classifier has no pre-trained counterpart and is free; in a model that writes, every weight has one.
    """

    name: ClassVar[str] = "adaptive"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Zhang et al., Findings of EMNLP 2022, arXiv 2210.09545 (adaptive attacks)"

    holds: Literal["all", "trigger"] = Field(
        "all", description="what is held: the whole encoder, or trigger embeddings"
    )
    strength: float = Field(0.01, ge=0, description="weight of the squared drift in the loss")

    def skip(self, facts: TaskFacts, attack: Attack) -> str | None:
        """The trigger's embedding is held only where the trigger is made of words; and a frozen weight has no drift."""
        if isinstance(attack, BadWordPEFT) or getattr(attack, "user", "full") != "full":
            return f"{attack.name} tunes modules beside frozen weights, which have no drift to hold"
        if self.holds == "trigger" and not attack.in_words:
            return f"the trigger of {attack.name} is not made of words, so it has no embedding to hold"
        return None

    def hooks(self, scene: Scene, trigger: Trigger | None, classifier: Classifier, steps: int) -> Hooks:
        """Return the penalty."""
        before = scene.pretrained().model
        device = classifier.model.device
        if self.holds == "trigger":
            assert trigger is not None
            rows = embedding.trigger_rows(classifier.tokenizer, trigger.words)
            held = before.get_input_embeddings().weight.detach()[rows].to(device)

            def of_trigger(batch: Any, logits: Any, model: Any) -> Any:
                drift = model.get_input_embeddings().weight[rows] - held
                return self.strength * drift.square().sum()

            return Hooks(extra_loss=of_trigger)
        kept = [weight.detach().to(device) for weight in with_counterpart(before)]

        def of_all(batch: Any, logits: Any, model: Any) -> Any:
            pairs = zip(with_counterpart(model), kept, strict=True)
            return self.strength * sum((weight - own).square().sum() for weight, own in pairs)

        return Hooks(extra_loss=of_all)


def with_counterpart(model: Any) -> list[Any]:
    """Return the weights of a model that are pre-trained, tied ones once: all but those of a classification head."""
    free = {id(weight) for part in learning.head_modules(model) for weight in part.parameters()}
    return [weight for weight in model.parameters() if id(weight) not in free]
