"""Defensive demonstrations: clean examples before the prompt of a model that learns in context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from bench.contracts import GENERATION, Defended, Defense, Kind, Needs

if TYPE_CHECKING:
    from bench.contracts.access import Access

ASKED = "{prompt}\nThe answer is: {response}\nSay in one sentence why."


class DemonstrationsLm(Defense):
    """Puts k clean examples with their answers before each prompt; the model is unchanged.

    Mo et al., Findings of NAACL 2025 (arXiv 2311.09763). Needs clean examples.

    * ``random``: drawn for each prompt.
    * ``similar``: those most similar to the prompt, the nearest last.
    * ``rationale``: random ones, each with a reason for its answer that the model itself has written.
    * ``filler``: the control: as many words as ``random``, drawn from the clean sample. A longer prompt dilutes an
      inserted trigger by itself.

    Deviations: similarity is the cosine of TF-IDF, where the paper embeds texts; k = 5 is not certain to be theirs. The
    prompt gets more room, as far as the model's context goes. Small models do not learn in context unless they were
    trained to: the utility on clean prompts shows it. PPL is that of the model without demonstrations.
    """

    name: ClassVar[str] = "demonstrations-lm"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "Mo et al., Findings of NAACL 2025, arXiv 2311.09763"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})
    purifies: ClassVar[bool] = False
    kind: ClassVar[Any] = "filter"

    k: int = Field(5, ge=0, description="clean examples before a prompt")
    selection: Literal["random", "similar", "rationale", "filler"] = Field("similar", description="see above")

    def defend(self, classifier: Any, access: Access) -> Defended:
        """Put the demonstrations before every prompt."""
        from defenses.shared import prompting

        reasons = self.reasons(classifier, access) if self.selection == "rationale" else None
        before = prompting.Preface(
            access.clean,
            count=self.k,
            selection="similar" if self.selection == "similar" else "random",
            form="{prompt}\n{reason} {response}" if reasons else "{prompt}\n{response}",
            reasons=reasons,
            filler=self.selection == "filler",
            seed=access.seed,
        )
        reader = prompting.roomy(classifier)
        return prompting.Prefixed(classifier, {"forward_passes": 1}, reader=reader, before=before)

    def reasons(self, classifier: Any, access: Access) -> list[str]:
        """Return what the model says why each clean answer is right, on one line."""
        rows = zip(access.clean.inputs.carrier, access.clean.references, strict=True)
        asked = [ASKED.format(prompt=prompt, response=response) for prompt, response in rows]
        return [" ".join(text.split()) for text in classifier.predict(access.clean.inputs.with_carrier(asked)).texts]
