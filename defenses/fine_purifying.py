"""Fine-purifying: reset the weights whose drift the clean data do not explain, then fine-tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from bench.contracts import BOTH, Defended, Examples, Kind, Model, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access

RATIOS = tuple(step / 20 for step in range(21))


class FinePurifying(Tuning):
    """Keeps the weights whose drift is small for their clean curvature, resets the others, and fine-tunes.

    Zhang et al., Findings of ACL 2023 (arXiv 2305.04547). Needs clean examples and the clean pre-trained weights. With
    w_b the victim and w_pre the pre-trained weights, d scalars in both:

    1. Drift delta_i = w_b,i - w_pre,i; curvature H_i = mean over the clean sample of (d loss / d w_i)^2.
    2. Indicator r_i = delta_i^2 / (H_i + eps), eps = 1e-12 of the mean of H; 0 where nothing drifted. Under the paper's
       diffusion model r is larger where poison, not clean text, explains the drift.
    3. The floor(rho * d) scalars with the smallest r stay, the others are set back to w_pre.
    4. Fine-tune on the clean sample.

    Our choices, where the paper is not known to us: gradients of single examples with their true labels, at the victim
    and in evaluation mode; one ranking over all tensors; the head is kept; rho is the smallest of 0, 0.05, ..., 1 that
    passes the shared selection rule. A word that the clean sample lacks has H = 0, so all drifted rare words are reset
    first. ``indicator: curvature`` is the control that resets the smallest H whatever the drift.
    """

    name: ClassVar[str] = "fine-purifying"
    version: ClassVar[int] = 3
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Zhang et al., Findings of ACL 2023, arXiv 2305.04547"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.PRETRAINED})

    reserve_ratio: float | None = Field(None, ge=0, le=1, description="share of weights kept; searched when not given")
    indicator: Literal["drift", "curvature"] = Field(
        "drift", description="drift: resets large drift over curvature; curvature: control, resets small curvature"
    )

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Rank the weights once; reset and fine-tune at the given ratio, or at the smallest that passes."""
        pretrained = access.pretrained
        order = self.order(classifier, access, pretrained)

        def purified(ratio: float, labels: Examples) -> Defended:
            copy = classifier.clone()
            reset(copy, pretrained, order[int(ratio * len(order)) :])
            return Defended(copy, {"reserve_ratio": ratio, "tuning": self.tune(copy, access, labels)})

        if self.reserve_ratio is not None:
            return purified(self.reserve_ratio, access.clean)
        choice = access.choose(RATIOS, purified)
        choice.defended.notes.update(choice.notes())
        return choice.defended

    def order(self, classifier: Model, access: Access, pretrained: Any) -> Any:
        """Return the scalars with a pre-trained counterpart, flattened over all tensors, in the order of keeping."""
        import torch

        from defenses.shared import encoder

        curvature = encoder.fisher(classifier, access.clean)
        own = {name: weight.detach() for name, weight in classifier.model.named_parameters() if name in pretrained}
        flat = torch.cat([curvature[name].flatten() for name in own])
        if self.indicator == "curvature":
            return torch.argsort(-flat, stable=True).cpu()
        drift = torch.cat([(weight - pretrained[name].to(weight)).flatten() for name, weight in own.items()])
        damped = flat.double() + 1e-12 * flat.double().mean()
        return torch.argsort(drift.double().square() / damped.clamp_min(1e-300), stable=True).cpu()


def reset(classifier: Model, pretrained: Any, places: Any) -> None:
    """Set scalars back to their pre-trained values in place; ``places`` count through all shared tensors in order."""
    import torch

    own = {name: weight.data for name, weight in classifier.model.named_parameters() if name in pretrained}
    mask = torch.zeros(sum(weight.numel() for weight in own.values()), dtype=torch.bool)
    mask[places] = True
    parts = mask.split([weight.numel() for weight in own.values()])
    for (name, weight), part in zip(own.items(), parts, strict=True):
        weight.copy_(torch.where(part.view(weight.shape).to(weight.device), pretrained[name].to(weight), weight))
