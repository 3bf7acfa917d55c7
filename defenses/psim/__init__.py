"""PSIM: a prompt trained on random labels is sure of triggered inputs only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench import learning, seeds
from bench.contracts import Classifier, Defended, Defense, Needs, Predictions
from bench.contracts.examples import Examples, Inputs
from defenses.shared.filtering import Screened, low_quantile

if TYPE_CHECKING:
    import torch

    from bench.contracts.access import Access
    from defenses.psim.prompt import Prompt
    from defenses.shared.forwards import Batch


class Psim(Defense):
    """Rejects inputs that a prompt-tuned copy of the model, trained on random labels, is still sure of.

    Zhao et al., Findings of NAACL 2024 (arXiv 2402.12168). Needs plain text of the task.

    1. The identification model: the encoder that was received stays frozen; virtual tokens from a small network
       (P-tuning) and the classification head are trained on text whose labels are drawn uniformly. It is sure of no
       clean input, but a backdoor of the encoder still drives triggered ones to an extreme.
    2. Inputs on which its highest probability exceeds a threshold are rejected; the others get the victim's answer.

    Deviations: the paper's victim is a frozen poisoned encoder with a PEFT head; here the encoder of the fine-tuned
    victim is frozen and the victim's own head is trained on or drawn anew. The threshold is by default the quantile of
    held-out plain text that rejects the stated share of it; the paper fixes 0.7. The sample is smaller than the paper's
    training set.
    """

    name: ClassVar[str] = "psim"
    version: ClassVar[int] = 4
    citation: ClassVar[str] = "Zhao et al., Findings of NAACL 2024, arXiv 2402.12168"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.UNLABELLED})
    purifies: ClassVar[bool] = False
    kind: ClassVar[Any] = "filter"

    samples: int = Field(256, ge=2, description="texts to train on; half as many set the threshold")
    epochs: int = Field(10, ge=0, description="passes over them")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate")
    batch_size: int = Field(32, ge=1, description="examples a step")
    tokens: int = Field(5, ge=1, description="virtual tokens")
    hidden: int = Field(128, ge=1, description="width of the network behind the virtual tokens")
    fresh_head: bool = Field(False, description="draw the head anew instead of going on with the victim's")
    frr: float = Field(0.05, ge=0, lt=1, description="share of clean inputs that may be rejected")
    threshold: float | None = Field(
        None, ge=0, le=1, description="probability above which an input is rejected; from frr if not given"
    )

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Train the identification model and set the threshold."""
        from defenses.psim.prompt import Prompt, confidence

        rng = access.rng("psim")
        texts = access.unlabelled
        order = rng.permutation(len(texts))
        cut = min(self.samples, max(1, 2 * len(order) // 3))
        train = texts.take(order[:cut])
        labels = rng.integers(len(access.facts.labels), size=len(train))
        twin = classifier.clone()
        if self.fresh_head:
            learning.reinitialise_head(twin, seed=seeds.derive("psim head", access.seed))
        prompt = Prompt(twin.model, self.tokens, self.hidden, access.seed)
        tuning = self.tuned(twin, prompt, Examples(train, labels), access.seed)

        def score(inputs: Inputs, _verdicts: Predictions) -> np.ndarray:
            return -confidence(twin, prompt, inputs)

        held_out = texts.take(order[cut : cut + max(1, self.samples // 2)])
        clean = -confidence(twin, prompt, held_out) if len(held_out) else np.zeros(0)
        threshold = low_quantile(clean, self.frr) if self.threshold is None else -self.threshold
        notes = {"threshold": -threshold, "median_confidence": -float(np.median(clean)), "tuning": tuning}
        notes["forward_passes"] = 2
        return Screened(classifier=classifier, notes=notes, score=score, threshold=threshold)

    def tuned(self, twin: Classifier, prompt: Prompt, examples: Examples, seed: int) -> dict[str, Any]:
        """Train prompt and head on the labels; return notes."""
        from torch.nn import functional

        from defenses.psim.prompt import answers
        from defenses.shared.forwards import freeze
        from defenses.shared.loops import minimise_on

        freeze(twin.model)
        head = [p for part in learning.head_modules(twin.model) for p in part.parameters()]
        for parameter in head:
            parameter.requires_grad_(True)

        def loss(batch: Batch, gold: torch.Tensor) -> torch.Tensor:
            return functional.cross_entropy(answers(twin, prompt(), batch), gold)

        groups = [{"params": [*prompt.parameters(), *head], "lr": self.learning_rate}]
        options = {"epochs": self.epochs, "batch_size": self.batch_size, "seed": seed}
        return minimise_on(examples, twin, groups, loss=loss, **options)
