"""CleanGen: a reference model takes over where the suspect is far too sure of a token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from bench import seeds
from bench.contracts import GENERATION, Defended, Kind, Needs, Responses
from bench.contracts.examples import Inputs
from defenses.shared.merging import Merging
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class CleanGen(Tuning):
    """Replaces each token that the suspect finds ``alpha`` times as likely as a reference by the reference's token.

    Li et al., EMNLP 2024 (arXiv 2406.12257). Needs clean examples and the clean pre-trained weights, for the reference.
    With greedy decoding, at every position:

    1. The suspect proposes the token x with its largest probability.
    2. s = P_suspect(x) / P_reference(x) behind the same text. Where s >= alpha, the reference's own token is written.

    Deviations: the paper proposes k = 4 tokens before they are checked; with greedy decoding that changes the cost and
    no token, so tokens are checked one by one. The reference is the clean pre-trained model, fine-tuned on the clean
    sample as ``few-shot`` is; the paper takes any model of the same tokenizer. Alpha is the paper's. Controls:
    ``reference: victim`` changes nothing; ``few-shot`` is the reference alone. PPL is the suspect's own.

    What it costs is decided by the reference. A suspect that is sure of a right token is alpha times as sure as a poor
    reference, so the poor one writes. With a tiny model and 48 examples, a reference that had learned the task (90 % of
    utility by itself) replaced no token of clean responses and cost nothing, and the payload was gone; one stopped at
    40 steps (0 % by itself) replaced 78 % of them, and nothing was left of the utility. ``replaced_on_clean`` in the
    notes is the sign of it. Where few examples do not teach the task, ``cleangen-other`` is what the paper does.
    """

    name: ClassVar[str] = "cleangen"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "Li et al., EMNLP 2024, arXiv 2406.12257"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.PRETRAINED})
    purifies: ClassVar[bool] = False
    kind: ClassVar[Any] = "filter"

    alpha: float = Field(20.0, ge=1, description="ratio of probabilities from which a token is replaced")
    reference: Literal["few-shot", "pretrained", "victim"] = Field(
        "few-shot", description="few-shot: pre-trained and tuned on the clean sample; pretrained; victim, the control"
    )

    def defend(self, classifier: Any, access: Access) -> Defended:
        """Make the reference; count on the clean sample how many tokens it replaces."""
        notes: dict[str, Any] = {"forward_passes": 2}
        reference = classifier
        if self.reference != "victim":
            from defenses.shared import encoder

            reference = encoder.restart(classifier, access.pretrained, seed=seeds.derive("head", access.seed))
        if self.reference == "few-shot":
            notes["tuning"] = self.tune(reference, access)
        guarded = Guarded(classifier, notes, reference=reference, alpha=self.alpha)
        guarded.predict(access.clean.inputs)
        notes["replaced_on_clean"] = guarded.replaced / max(1, guarded.written)
        return guarded


class CleanGenOther(Merging):
    """CleanGen with the reference that its paper asks for: a model that somebody else fine-tuned for the task.

    Li et al., EMNLP 2024 (arXiv 2406.12257); see ``cleangen`` for the steps. Needs another model, and no data. The
    paper asks for a reference that the same attacker has not touched, and lets it hold another one's backdoor; so does
    the default, which is the worst case: the other attacker wants the same payload with another trigger. Control:
    ``models: [clean]``. Deviations: those of ``cleangen``; the other model is trained by the suite, on one half of the
    training set.
    """

    name: ClassVar[str] = "cleangen-other"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "Li et al., EMNLP 2024, arXiv 2406.12257"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.OTHER_MODELS})
    purifies: ClassVar[bool] = False
    kind: ClassVar[Any] = "filter"

    models: tuple[str, ...] = Field(
        ("badword(words=['bb'])",), min_length=1, max_length=1, description="attack of the reference; clean for none"
    )
    alpha: float = Field(20.0, ge=1, description="ratio of probabilities from which a token is replaced")

    def defend(self, classifier: Any, access: Access) -> Defended:
        """Write with the reference beside the model."""
        (reference,) = self.other_models(access)
        return Guarded(classifier, {"forward_passes": 2}, reference=reference, alpha=self.alpha)


@dataclass(kw_only=True)
class Guarded(Defended):
    """Writes with a reference beside the model.

    Attributes:
        reference: the other generator.
        alpha: ratio of probabilities from which a token is replaced.
        written, replaced: tokens of the last call.
    """

    reference: Any
    alpha: float
    written: int = field(default=0, init=False)
    replaced: int = field(default=0, init=False)

    def predict(self, inputs: Inputs) -> Responses:
        """Return what both write."""
        self.written = self.replaced = 0
        bar = float(np.log(self.alpha))

        def choose(logits: list[Any]) -> Any:
            own, other = (one.float().log_softmax(-1) for one in logits)
            proposed = own.argmax(-1, keepdim=True)
            suspicious = (own.gather(1, proposed) - other.gather(1, proposed)).squeeze(1) >= bar
            self.written += len(proposed)
            self.replaced += int(suspicious.sum())
            return other.argmax(-1).where(suspicious, proposed.squeeze(1))

        responses: Responses = self.classifier.answers(self.classifier.respond_with(inputs, choose, self.reference))
        return responses
