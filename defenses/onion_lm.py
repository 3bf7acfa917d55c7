"""ONION for models that write, with a real causal language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from bench.contracts import GENERATION, Kind, Needs
from defenses.onion import Onion, Scorer

if TYPE_CHECKING:
    from bench.contracts.access import Access
    from bench.contracts.examples import Inputs


class OnionLm(Onion):
    """Deletes the words of a prompt without which its perplexity under the clean pre-trained model falls.

    Qi et al., EMNLP 2021 (arXiv 2011.10369), as ``onion``, but the scorer is a real causal language model as in the
    paper: the clean pre-trained weights of the model itself. Needs clean examples and the clean pre-trained weights.
    Deviation: the paper's scorer is GPT-2. A system text is the operator's own and is left alone.
    """

    name: ClassVar[str] = "onion-lm"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    libraries: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.PRETRAINED})

    scorer: Literal["pretrained"] = Field("pretrained", description="the clean pre-trained model")

    def recipe(self) -> dict[str, Any]:
        """The plugin's recipe: the weights of the scorer are in the key of the victim."""
        return super(Onion, self).recipe()

    def language_model(self, classifier: Any, access: Access) -> Scorer:
        """Return the scorer."""
        from defenses.onion.word_models import CausalModel

        untrained = access.untrained()
        return CausalModel(untrained.model, untrained.tokenizer)

    def columns(self, inputs: Inputs) -> list[Sequence[str]]:
        """Return what the user says."""
        return [inputs.carrier]

    def put(self, inputs: Inputs, columns: list[list[str]]) -> Inputs:
        """Return the inputs with another text of the user."""
        return inputs.with_carrier(columns[0])
