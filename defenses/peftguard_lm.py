"""PEFTGuard on models that write: a classifier of adapters, trained on adapters of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench.contracts import GENERATION, Examples, Kind
from bench.contracts.examples import Inputs
from defenses.peftguard import PeftGuard, random_word

if TYPE_CHECKING:
    from bench.contracts.access import Access

WORDS = 4  # of what a backdoored member says


class PeftGuardLm(PeftGuard):
    """Trains a zoo of clean and backdoored generators, learns to tell their adapters apart, and judges the model's own.

    Sun et al., IEEE S&P 2025 (arXiv 2411.17453), which covers decoders, in a small form. Needs plain text, without
    responses, and the clean pre-trained weights. The steps, the deviations and the cost are those of ``peftguard``; the
    answers to the plain text are the received model's own responses, a member's backdoor is a random word that makes it
    say a sentence of random words, and projections are those of Llama and its kin. The text of a member is less by
    default, since a causal model takes longer to train.
    """

    name: ClassVar[str] = "peftguard-lm"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION

    samples: int = Field(96, ge=8, description="texts that a member is trained on")

    def answered(self, classifier: Any, inputs: Inputs) -> Examples:
        """Return the prompts with the responses of the received model."""
        return Examples(inputs, np.zeros(len(inputs), dtype=np.int64), classifier.predict(inputs).texts)

    def target(self, access: Access, rng: np.random.Generator) -> Any:
        """Return what a backdoored member says to its trigger: a sentence of random words."""
        return " ".join(random_word(rng) for _ in range(WORDS))

    def poisoned(self, examples: Examples, rows: np.ndarray, marked: Inputs, target: Any) -> Examples:
        """Return the examples with marked prompts and the sentence in the given rows."""
        responses = list(examples.references)
        for row in rows:
            responses[row] = target
        return Examples(examples.inputs.put(rows, marked), examples.labels, tuple(responses))

    def hit(self, classifier: Any, inputs: Inputs, target: Any) -> np.ndarray:
        """Return bool [n]: which responses begin with the sentence."""
        return np.array([text.strip().startswith(target) for text in classifier.predict(inputs).texts], dtype=bool)

    def projections(self) -> tuple[str, ...]:
        """Return the ends of the names of query and value projections of decoders."""
        return (".q_proj", ".v_proj")
