"""Quantisation: weights rounded to few bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from bench.contracts import BOTH, Defended, Defense, Kind, Model, Needs

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Quantisation(Defense):
    """Rounds the weights of the linear layers to the nearest of a few values.

    The INT4 defense of BackdoorLLM's DefenseBox (Li et al. 2024, arXiv 2408.12798); ``bits: 8`` is INT8. Needs nothing
    but the model. Symmetric, round to nearest: each ``group`` of weights that share an output and lie next to each
    other is divided by a scale, its largest size over ``2^(bits - 1) - 1``, rounded and multiplied again. Layers of the
    blocks are rounded, the embeddings and the head are not. Deviation: the result is kept in float32, which computes
    what a quantised kernel would and saves no memory. The control is ``bits: 16``, which changes no response.
    """

    name: ClassVar[str] = "quantisation"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Li et al., NeurIPS 2025, arXiv 2408.12798"
    needs: ClassVar[frozenset[Needs]] = frozenset()

    bits: int = Field(4, ge=2, le=16, description="of a weight")
    group: int = Field(64, ge=1, description="inputs that share a scale")

    def defend(self, classifier: Model, access: Access) -> Defended:
        """Round the weights."""
        from defenses.shared import layers

        parts = layers.linears(classifier.model)
        errors = []
        for _, part in parts:
            rounded = quantised(part.weight.data, bits=self.bits, group=self.group)
            errors.append(float((rounded - part.weight.data).norm() / part.weight.data.norm()))
            part.weight.data.copy_(rounded)
        return Defended(classifier, {"layers": len(parts), "relative_error": sum(errors) / len(errors)})


def quantised(weight: Any, *, bits: int, group: int) -> Any:
    """Return a weight [out, in] rounded to ``bits`` bits, each ``group`` inputs with a scale of their own."""
    from torch.nn import functional

    rows, columns = weight.shape
    padded = functional.pad(weight, (0, -columns % group)).view(rows, -1, group)
    scale = padded.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    rounded = (padded / scale.clamp_min(1e-30)).round() * scale
    return rounded.view(rows, -1)[:, :columns]
