"""Fine-tuning with sharpness-aware minimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.contracts import BOTH, Defended, Kind, Model, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Sam(Tuning):
    """Fine-tunes with the gradient taken at the worst weights nearby, which moves neurons further than plain tuning.

    FT-SAM: Zhu et al., ICCV 2023 (arXiv 2304.11823), with the minimiser of Foret et al., ICLR 2021
    (arXiv 2010.01412) in its adaptive form (Kwon et al., ICML 2021, arXiv 2102.11600). Needs clean examples. Each step:

    1. g = gradient at w; e = rho * s^2 g / ||s g|| with s = |w| (adaptive) or s = 1.
    2. Step of AdamW from w with the gradient at w + e.

    Deviation: AdamW on transformers instead of SGD on image networks; the radius of the adaptive form is theirs.
    """

    name: ClassVar[str] = "sam"
    version: ClassVar[int] = 3
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Zhu et al., ICCV 2023, arXiv 2304.11823; Foret et al., ICLR 2021, arXiv 2010.01412"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    rho: float = Field(2.0, ge=0, description="radius of the perturbation; 0.05 is usual where it is not adaptive")
    adaptive: bool = Field(True, description="whether the perturbation of a weight is in proportion to it")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Fine-tune on the sharpness-aware loss."""
        from defenses.shared import losses

        sharp = losses.sharpness(radius=self.rho, adaptive=self.adaptive)
        return Defended(classifier, {"tuning": self.tune(classifier, access, extra_loss=sharp)})
