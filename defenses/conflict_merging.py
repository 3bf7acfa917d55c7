"""Information conflict: train a clean expert and merge it into the victim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from bench.contracts import BOTH, Defended, Examples, Kind, Model, Needs
from defenses.shared.merging import put, weights_of
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class ConflictMerging(Tuning):
    """Trains an expert on the clean sample and interpolates the victim's weights towards it.

    Merge half of Chen et al. 2024 (arXiv 2411.18280). Needs clean examples and the clean pre-trained weights.

    1. Conflict model: the clean pre-trained encoder with the victim's head (``start: pretrained``), or the victim
       (``start: victim``), fine-tuned on the clean sample. From the victim the merge lies on the path of fine-tuning
       and cannot do better than it.
    2. w = (1 - lambda) * w_victim + lambda * w_conflict.

    The victim's share 1 - lambda is the smallest of 0, 0.05, ..., 1 that passes the shared selection rule. Deviations:
    how the paper merges is not known to us, so it is plain interpolation; all weights are tuned, not an adapter; its
    other half, contradicting evidence in the prompt, has no counterpart for classifiers.
    """

    name: ClassVar[str] = "conflict-merging"
    version: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Chen et al. 2024, arXiv 2411.18280"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.PRETRAINED})

    start: Literal["pretrained", "victim"] = Field("pretrained", description="where the conflict model starts from")
    victim_share: float | None = Field(None, ge=0, le=1, description="share of the victim; searched when not given")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Train the conflict model and merge."""
        from defenses.shared import merge

        experts: dict[str, tuple[Model, dict[str, Any]]] = {}  # one for each set of labels

        def expert_of(labels: Examples) -> tuple[Model, dict[str, Any]]:
            name = labels.fingerprint()
            if name not in experts:
                expert = classifier.clone()
                if self.start == "pretrained":
                    put(expert, access.pretrained)
                experts[name] = expert, self.tune(expert, access, labels)
            return experts[name]

        def merged(share: float, labels: Examples) -> Defended:
            expert, notes = expert_of(labels)
            copy = classifier.clone()
            put(copy, merge.average([weights_of(classifier), weights_of(expert)], [share, 1 - share]))
            return Defended(copy, {"tuning": notes, "victim_share": share})

        if self.victim_share is not None:
            return merged(self.victim_share, access.clean)
        choice = access.choose([step / 20 for step in range(21)], merged)
        choice.defended.notes.update(choice.notes())
        return choice.defended
