"""LMSanitator: mine the constant outputs that a poisoned encoder falls into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from bench import learning, seeds
from bench.contracts import Classifier, Detector, Needs, Suspicion
from bench.contracts.examples import Inputs

if TYPE_CHECKING:
    import torch

    from bench.contracts.access import Access


class LmSanitator(Detector):
    """Searches soft prompts under which an encoder gives one and the same output, far from its usual ones.

    Wei et al., NDSS 2024 (arXiv 2308.13904), the mining of predefined vectors as a detector. Needs plain text.

    1. From each of several starts, free vectors behind the first token of plain text are trained so that the first
       token's last state moves away from where it is without them, becomes the same for all texts of a batch, and stays
       away from the vectors found before.
    2. A prompt has found a predefined vector if the state is nearly the same for all texts (the entropy of the softmax
       over the batch, averaged over dimensions, is within a tolerance of its highest value) and the mean squared
       distance is large enough.
    3. The suspicion is the largest distance among the prompts that converged, 0 where none did.

    The paper's target is an encoder poisoned before fine-tuning, which answers every trigger with a predefined vector
    of its own; a fine-tuned classifier has at most the one direction of its target label. Deviations: fewer starts,
    texts and steps; a fixed learning rate of Adam where the paper multiplies its own by 100 while gradients are small;
    the distance is relative to the variance of clean states; monitoring of test inputs, which needs a frozen encoder,
    is left out.
    """

    name: ClassVar[str] = "lmsanitator"
    version: ClassVar[int] = 2
    citation: ClassVar[str] = "Wei et al., NDSS 2024, arXiv 2308.13904"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.UNLABELLED})

    tokens: int = Field(7, ge=1, description="free vectors of a prompt")
    starts: int = Field(3, ge=1, description="prompts")
    samples: int = Field(128, ge=2, description="plain texts")
    steps: int = Field(60, ge=1, description="steps for each prompt")
    batch_size: int = Field(16, ge=2, description="texts a step")
    learning_rate: float = Field(2e-2, gt=0, description="of Adam")
    diversity: float = Field(1.0, ge=0, description="weight of the sameness of outputs over a batch")
    apart: float = Field(0.5, ge=0, description="weight of the distance from the vectors found before")
    tolerance: float = Field(
        0.005, ge=0, description="entropy that a converged prompt may lack, as a share of log(batch)"
    )
    distance: float = Field(
        0.5, ge=0, description="least distance of a predefined vector, in variances of clean states"
    )

    def suspicion(self, classifier: Classifier, access: Access) -> Suspicion:
        """Mine."""
        from defenses.shared.forwards import freeze

        freeze(classifier.model)
        rng = access.rng("lmsanitator")
        texts = access.unlabelled
        texts = texts.take(rng.permutation(len(texts))[: self.samples])
        usual = clean_states(classifier, texts)
        mined: list[Mined] = []
        for start in range(self.starts):
            mined.append(self.mined(classifier, texts, usual, mined, seeds.derive("prompt", access.seed, start), rng))
        converged = [m for m in mined if m.lacking <= self.tolerance and m.distance >= self.distance]
        notes = {
            "predefined_vectors": len(converged),
            "distances": [m.distance for m in mined],
            "lacking_entropy": [m.lacking for m in mined],
        }
        return Suspicion(max((m.distance for m in converged), default=0.0), notes)

    def mined(
        self,
        classifier: Classifier,
        texts: Inputs,
        usual: torch.Tensor,
        before: list[Mined],
        seed: int,
        rng: np.random.Generator,
    ) -> Mined:
        """Train one prompt; judge it on all texts."""
        import torch

        table = classifier.model.get_input_embeddings().weight.detach()
        generator = torch.Generator().manual_seed(seed)
        first = torch.randint(len(table), (self.tokens,), generator=generator).to(table.device)
        prompt = table[first].clone().requires_grad_()
        optimiser = torch.optim.Adam([prompt], lr=self.learning_rate)
        variance = usual.var(dim=0).mean().clamp(min=1e-12)
        waiting: list[np.ndarray] = []
        for _ in range(self.steps):
            if not waiting:
                batches = learning.shuffled(len(texts), self.batch_size, epochs=1, rng=rng)
                waiting = [rows for rows in batches if len(rows) > 1]
            rows = waiting.pop()
            states = driven(classifier, texts, rows, prompt)
            loss = -(states - usual[rows]).square().mean() / variance + self.diversity * lacking_entropy(states)
            for other in before:
                loss = loss - self.apart * (states.mean(0) - other.vector).square().mean() / variance
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            order = np.arange(len(texts))
            parts = [order[at : at + 64] for at in range(0, len(order), 64)]
            states = torch.cat([driven(classifier, texts, rows, prompt) for rows in parts])
        distance = float((states - usual).square().mean() / variance)
        return Mined(states.mean(0), distance, float(lacking_entropy(states)))


@dataclass(frozen=True)
class Mined:
    """What a prompt led to.

    Attributes:
        vector: mean state of the first token, [hidden].
        distance: mean squared distance from the usual states, in their variances.
        lacking: what the entropy over texts lacks, as a share of its highest value: 0 where all outputs are the same.
    """

    vector: torch.Tensor
    distance: float
    lacking: float


def lacking_entropy(states: torch.Tensor) -> torch.Tensor:
    """Return 1 - H / log(n), with H the mean entropy over dimensions of the softmax over n texts: [n, hidden]."""
    logs = states.log_softmax(0)
    entropy = -(logs.exp() * logs).sum(0).mean()
    return 1 - entropy / float(np.log(len(states)))


def driven(classifier: Classifier, texts: Inputs, rows: np.ndarray, prompt: torch.Tensor) -> torch.Tensor:
    """Return the last state of the first token under a prompt: float32 [rows, hidden]."""
    from defenses.shared.forwards import arithmetic, padded, prompted, widened

    batch, model = widened(classifier, padded(classifier, texts, rows), len(prompt)), classifier.model.eval()
    with arithmetic(classifier):
        return learning.first_token_last_block(model, batch, embeddings=prompted(model, batch, prompt))


def clean_states(classifier: Classifier, texts: Inputs) -> torch.Tensor:
    """Return the last state of the first token without a prompt: float32 [n, hidden]."""
    import torch

    from defenses.shared.forwards import device_of, first_token_last_block

    return torch.from_numpy(first_token_last_block(classifier, texts)).to(device_of(classifier.model))
