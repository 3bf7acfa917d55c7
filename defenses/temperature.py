"""Decoding temperature: responses are drawn instead of taken greedily."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from bench import seeds
from bench.contracts import GENERATION, Defended, Defense, Kind, Needs, Responses
from bench.contracts.examples import Inputs

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Temperature(Defense):
    """Draws each token from softmax(logits / temperature).

    The decoding control of BackdoorLLM's DefenseBox (Li et al. 2024, arXiv 2408.12798). Needs nothing but the model. A
    control more than a defense: what it takes of the backdoor, it takes of the utility, which is measured at the same
    temperature. Temperature 0 is greedy decoding, the undefended victim. PPL is that of the model at temperature 1.
    """

    name: ClassVar[str] = "temperature"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "control; Li et al., NeurIPS 2025, arXiv 2408.12798"
    needs: ClassVar[frozenset[Needs]] = frozenset()
    purifies: ClassVar[bool] = False
    kind: ClassVar[Any] = "filter"

    temperature: float = Field(1.0, ge=0, description="of the logits; 0 is greedy")

    def defend(self, classifier: Any, access: Access) -> Defended:
        """Draw from now on."""
        notes = {"forward_passes": 1}
        return Drawn(classifier, notes, temperature=self.temperature, seed=seeds.derive("drawn", access.seed))


@dataclass(kw_only=True)
class Drawn(Defended):
    """Draws responses, the same ones in every call with the same prompts."""

    temperature: float
    seed: int

    def predict(self, inputs: Inputs) -> Responses:
        """Return drawn responses."""
        import torch

        generator = torch.Generator().manual_seed(self.seed)

        def choose(logits: list[Any]) -> Any:
            if self.temperature == 0:
                return logits[0].argmax(-1)
            noise = torch.empty(logits[0].shape).exponential_(generator=generator).to(logits[0].device)
            return (logits[0].float() / self.temperature - noise.log()).argmax(-1)  # Gumbel's way to draw

        responses: Responses = self.classifier.answers(self.classifier.respond_with(inputs, choose))
        return responses
