"""Fine-mixing: mix the victim's weights with the clean pre-trained ones, then fine-tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from bench import learning, seeds
from bench.contracts import BOTH, Defended, Examples, Kind, Model, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access

RATIOS = tuple(step / 20 for step in range(21))


class FineMixing(Tuning):
    """Keeps a random share of the victim's weights, resets the rest to the pre-trained ones, and fine-tunes.

    Zhang et al., Findings of EMNLP 2022 (arXiv 2210.09545). Needs clean examples and the clean pre-trained weights.
    With w_b the victim and w_pre the pre-trained weights, d scalars in both:

    1. Mix: w = m * w_b + (1 - m) * w_pre, where m in {0, 1}^d has exactly floor(rho * d) ones. The classification head
       has no pre-trained counterpart and is kept from the victim.
    2. Fine-tune w on the clean labels.

    The reserve ratio rho is the smallest of 0, 0.05, ..., 1 that passes the shared selection rule. Deviation: the
    paper's thresholds for that choice are not known; the shared rule replaces them, and the labels to choose on are
    part of the budget of labels.
    """

    name: ClassVar[str] = "fine-mixing"
    version: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Zhang et al., Findings of EMNLP 2022, arXiv 2210.09545"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.PRETRAINED})
    candidates: ClassVar[tuple[str, tuple[float, ...]]] = ("reserve_ratio", RATIOS)
    kept: ClassVar[Literal["random", "drift"]] = "random"
    tunes: ClassVar[bool] = True

    reserve_ratio: float | None = Field(None, ge=0, le=1, description="share of weights kept; searched when not given")
    head: Literal["keep", "reinitialise"] = Field("keep", description="what becomes of the classification head")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Mix and fine-tune at the given reserve ratio, or at the smallest one that passes the shared rule."""

        def purified(ratio: float, labels: Examples) -> Defended:
            return self.purified(classifier, access, ratio, labels)

        if self.reserve_ratio is not None:
            return purified(self.reserve_ratio, access.clean)
        choice = access.choose(RATIOS, purified, trains=self.tunes)
        choice.defended.notes.update(choice.notes())
        return choice.defended

    def purified(self, classifier: Model, access: Access, ratio: float, labels: Examples) -> Defended:
        """Return a copy of the classifier, mixed at one reserve ratio and fine-tuned on the labels."""
        mixed = classifier.clone()
        seed = seeds.derive("mixing mask", access.seed)
        learning.mix_into(mixed, access.pretrained, reserve_ratio=ratio, seed=seed, by=self.kept)
        if self.head == "reinitialise":
            learning.reinitialise_head(mixed, seed=seeds.derive("head", access.seed))
        notes = {"reserve_ratio": ratio}
        return Defended(mixed, {**notes, "tuning": self.tune(mixed, access, labels)} if self.tunes else notes)


class FineMixingSel(FineMixing):
    """Fine-mixing (Sel): keeps the weights that moved most instead of a random share, then fine-tunes.

    Zhang et al., Findings of EMNLP 2022 (arXiv 2210.09545). Needs clean examples and the clean pre-trained weights.
    The floor(rho * d) scalars with the largest ``|w_b - w_pre|`` are kept.
    """

    name: ClassVar[str] = "fine-mixing-sel"
    version: ClassVar[int] = 2
    kept: ClassVar[Literal["random", "drift"]] = "drift"


class Mixing(FineMixing):
    """Fine-mixing without its second step: mixes and does not fine-tune.

    Zhang et al., Findings of EMNLP 2022 (arXiv 2210.09545). Needs clean examples (to choose the reserve ratio only) and
    the clean pre-trained weights. The fields of the fine-tuning step have no effect.
    """

    name: ClassVar[str] = "mixing"
    version: ClassVar[int] = 2
    tunes: ClassVar[bool] = False
