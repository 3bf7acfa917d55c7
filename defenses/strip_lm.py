"""STRIP for models that write: a triggered prompt keeps its response however its words are replaced."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench.contracts import GENERATION, Defended, Dialogues, Kind, Needs, Responses
from bench.contracts.examples import Inputs
from defenses.strip import Sources, Strip, perturbed

if TYPE_CHECKING:
    from bench.contracts.access import Access

TOGETHER = 32  # prompts that are scored at once


class StripLm(Strip):
    """Rejects prompts whose response stays probable while a share of their words is replaced.

    After Gao et al., IEEE TDSC 2022 (arXiv 1911.10312), whose text form is ``strip``. Needs clean examples.

    1. The model responds to the prompt. Of the prompt N copies are made: a share of its words, at random places, gives
       way to the words with the highest TF-IDF of a random clean prompt.
    2. The score is minus the mean log-probability that the model gives to a token of the beginning of its response,
       over the N copies. A response that only a trigger calls for stays probable, as long as the trigger survives.
    3. The threshold is a quantile of the scores of the clean prompts: the share of clean prompts that may be rejected.
       Prompts below it are rejected.

    Deviations: STRIP compares the entropy of labels; a response has none, so its own probability stands for it, which
    takes N scored prompts instead of N responses. There are no classes, so any clean prompt lends its words. A system
    text is the operator's own and is left alone. Where right responses do not depend on the words of a prompt, as where
    there are two label words, clean prompts keep theirs as well: the FAR of such a task is that of the method.
    """

    name: ClassVar[str] = "strip-lm"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "after Gao et al., IEEE TDSC 2022, arXiv 1911.10312"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    beginning: int = Field(8, ge=1, description="tokens of the response that are scored")
    threshold: float | None = Field(None, description="score below which a prompt is rejected; from frr if not given")

    def defend(self, classifier: Any, access: Access) -> Defended:
        """Score the clean prompts and set the threshold."""
        from defenses.shared.filtering import Screened, low_quantile

        clean = access.clean
        sources = Sources(replace(clean, inputs=Inputs(clean.inputs.carrier)))

        def score(inputs: Inputs, responses: Responses) -> np.ndarray:
            plain = Inputs(inputs.carrier)
            nowhere = np.full(len(inputs), -1, dtype=np.int64)  # of no class: any clean prompt lends its words
            rng = access.rng("strip-lm")
            mixed = perturbed(plain, nowhere, sources, copies=self.copies, ratio=self.ratio, rng=rng)
            rows = np.repeat(np.arange(len(inputs)), self.copies)
            asked = inputs.take(rows).with_carrier(mixed.texts)
            losses = beginning_losses(
                classifier, Dialogues(asked, tuple(responses.texts[row] for row in rows)), self.beginning
            )
            means: np.ndarray = losses.reshape(-1, self.copies).mean(axis=1)
            return means

        threshold = self.threshold
        if threshold is None:
            threshold = low_quantile(score(clean.inputs, classifier.predict(clean.inputs)), self.frr)
        notes = {"threshold": threshold, "forward_passes": self.copies + 1}
        return Screened(classifier=classifier, notes=notes, score=score, threshold=threshold)


def beginning_losses(generator: Any, dialogues: Dialogues, tokens: int) -> np.ndarray:
    """Return minus the mean log-probability of the first ``tokens`` tokens of each response, its end included: [n]."""
    import torch
    from torch.nn import functional

    from bench import learning
    from defenses.shared.forwards import arithmetic
    from defenses.shared.responses import first_answered

    objective, losses = generator.objective(dialogues), np.zeros(len(dialogues))
    generator.model.eval()
    for rows in np.array_split(np.arange(len(dialogues)), -(-len(dialogues) // TOGETHER)):
        batch = first_answered(objective.batch(rows), tokens)
        counts = (batch["labels"][:, 1:] >= 0).sum(1)
        with torch.inference_mode(), arithmetic(generator):
            each = functional.cross_entropy(
                learning.logits(generator.model, batch), learning.gold(batch), reduction="none"
            )
        owner = torch.arange(len(rows), device=each.device).repeat_interleave(counts)
        sums = each.new_zeros(len(rows)).index_add(0, owner, each.float())
        losses[rows] = (sums / counts).cpu().numpy()
    return losses
