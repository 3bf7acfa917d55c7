"""Perplexity filter: drop instructions and responses that a clean language model finds improbable, and retrain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench.contracts import GENERATION, Defended, Examples, Kind, Needs
from defenses.shared.retraining import Retraining, filtered

if TYPE_CHECKING:
    from bench.contracts.access import Access


class PerplexityFilter(Retraining):
    """Drops the training examples whose prompt or response surprises the clean pre-trained model, and retrains.

    The filter of instruction data by perplexity (Jain et al. 2023, arXiv 2309.00614, for prompts; Yan et al., NAACL
    2024, arXiv 2307.16888, discuss filtering for virtual prompt injection). Needs the training set, clean examples and
    the clean pre-trained weights.

    1. The mean loss of a token of each prompt, and of each response given its prompt, under the pre-trained model.
    2. An example is dropped where one of the two lies above the ``level`` quantile of the same loss on the clean
       examples.
    3. A new model is trained on the rest.

    Deviations: the bar comes from clean examples instead of a fixed perplexity, and every example is judged whole.
    ``level: 1`` drops what surprises more than any clean example.
    """

    name: ClassVar[str] = "perplexity-filter"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "Jain et al. 2023, arXiv 2309.00614"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.TRAINING_SET, Needs.PRETRAINED})

    level: float = Field(0.98, gt=0, le=1, description="share of clean losses below the bar")

    def defend(self, classifier: Any, access: Access) -> Defended:
        """Filter and retrain."""
        judge = access.untrained()
        bars = [float(np.quantile(column, self.level)) for column in losses(judge, access.clean)]
        columns = losses(judge, access.training_set)
        above = [column > bar for column, bar in zip(columns, bars, strict=True)]
        model, notes = filtered(access, access.training_set, above[0] | above[1])
        counts = {"by_prompt": int(above[0].sum()), "by_response": int(above[1].sum())}
        return Defended(model, {"bars": bars, **counts, **notes})


def losses(judge: Any, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean loss of the tokens of each prompt by itself, and of each response given its prompt: [n] each."""
    prompt, response = judge.plain_log_likelihood(examples.inputs.carrier), judge.log_likelihood(examples)
    return -prompt[0] / prompt[1], -response[0] / response[1]
