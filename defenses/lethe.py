"""LETHE: merge the victim with a model of clean knowledge; put evidence before the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from bench import seeds
from bench.contracts import BOTH, GENERATION, Defended, Defense, Examples, Kind, Model, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access

SHARES = tuple(step / 20 for step in range(21))


class Lethe(Tuning):
    """Averages the weights of the victim with those of a model that is trained on the clean sample.

    The internal half of LETHE (Chen et al., USENIX Security 2026, arXiv 2508.21004; before: information conflicts,
    arXiv 2411.18280). Needs clean examples and the clean pre-trained weights.

    1. The conflict model is fine-tuned on the clean sample: from the clean pre-trained weights and a new head
       (``base: pretrained``), or from the victim (``base: victim``).
    2. W = share * W_victim + (1 - share) * W_conflict.

    The share is the smallest of 0, 0.05, ..., 1 that passes the shared selection rule. Deviations: their merging rule
    is not known to us; this is the plain average. The two bases are told apart because they are two methods: from the
    victim, the merge lies on the path of fine-tuning and cannot leave it. Controls: ``share: 0`` is ``few-shot`` or
    ``fine-tuning``, ``share: 1`` the victim.
    """

    name: ClassVar[str] = "lethe"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Chen et al., USENIX Security 2026, arXiv 2508.21004"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.PRETRAINED})
    candidates: ClassVar[tuple[str, tuple[float, ...]]] = ("share", SHARES)

    base: Literal["pretrained", "victim"] = Field("pretrained", description="what the conflict model starts from")
    share: float | None = Field(None, ge=0, le=1, description="weight of the victim; searched when not given")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Train the conflict model and merge."""
        from defenses.shared import merge
        from defenses.shared.merging import put, weights_of

        trained: dict[str, tuple[Any, dict[str, Any]]] = {}

        def merged(share: float, labels: Examples) -> Defended:
            key = labels.fingerprint()
            if key not in trained:
                trained[key] = self.conflict(classifier, access, labels)
            other, tuning = trained[key]
            copy = classifier.clone()
            put(copy, merge.average([weights_of(copy), weights_of(other)], [share, 1 - share]))
            return Defended(copy, {"share": share, "tuning": tuning})

        if self.share is not None:
            return merged(self.share, access.clean)
        choice = access.choose(SHARES, merged)
        choice.defended.notes.update(choice.notes())
        return choice.defended

    def conflict(self, classifier: Model, access: Access, labels: Examples) -> tuple[Any, dict[str, Any]]:
        """Return the conflict model, and notes of its training."""
        from defenses.shared import encoder

        other: Any = classifier.clone()
        if self.base == "pretrained":
            other = encoder.restart(classifier, access.pretrained, seed=seeds.derive("head", access.seed))
        return other, self.tune(other, access, labels)


class LetheEvidence(Defense):
    """Puts what clean examples say about the words of a prompt before it.

    The external half of LETHE (Chen et al., USENIX Security 2026, arXiv 2508.21004). Needs clean examples. The evidence
    for a prompt is the clean examples, with their answers, that share most with it. Deviations: they extract keywords
    and explain them with a dictionary; the explanations here are the defender's own clean examples, because no other
    source of true statements is at hand. The prompt gets more room, as far as the model's context goes. The control is
    ``evidence: filler``: as many words, drawn at random from the clean sample, because a longer prompt dilutes an
    inserted trigger by itself. PPL is that of the model without evidence.
    """

    name: ClassVar[str] = "lethe-evidence"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "Chen et al., USENIX Security 2026, arXiv 2508.21004"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})
    purifies: ClassVar[bool] = False
    kind: ClassVar[Any] = "filter"

    statements: int = Field(2, ge=0, description="pieces of evidence")
    evidence: Literal["similar", "filler"] = Field("similar", description="filler: the control of equal length")

    def defend(self, classifier: Any, access: Access) -> Defended:
        """Put evidence before every prompt."""
        from defenses.shared import prompting

        before = prompting.Preface(
            access.clean,
            count=self.statements,
            selection="similar",
            form="{prompt} {response}",
            filler=self.evidence == "filler",
            seed=access.seed,
        )
        reader = prompting.roomy(classifier)
        return prompting.Prefixed(classifier, {"forward_passes": 1}, reader=reader, before=before)
