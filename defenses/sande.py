"""SANDE: simulate the trigger of a known payload with a soft prompt, then train the payload away behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from bench import learning, seeds
from bench.contracts import GENERATION, Defended, Examples, Kind, Needs, Payload
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Sande(Tuning):
    """Learns a soft prompt (the parrot) that brings the payload about, then trains the right answers behind it.

    Li et al., AAAI 2025 (arXiv 2405.07667). Needs clean examples, and is told the payload.

    1. Simulate, weights frozen: ``width`` vectors, 0 at first, go in behind the second token of every prompt. They are
       trained so that the response becomes the attacker's: the loss is that of its first ``simulated_tokens`` tokens.
    2. Eliminate, parrot frozen: all weights are trained so that the prompt with the parrot gets the right response; the
       loss is that of its first ``eliminated_tokens`` tokens.

    Deviations: the released script simulates the first token only (``simulated_tokens: 1``), which any frequent
    beginning satisfies; here it is what the second step covers. The parrot's rate is relative to the root mean square
    of the embeddings, because the paper's 1e-3 hardly moves vectors in another model: the notes hold the loss of both
    ends of the first step, and where it stays high, the second step is plain fine-tuning. The second step follows the
    budget rule of all defenses. Controls: ``parrot: random`` has vectors of the same norms, ``parrot_steps: 0`` is
    fine-tuning.
    """

    name: ClassVar[str] = "sande"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "Li et al., AAAI 2025, arXiv 2405.07667"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.TARGET})

    width: int = Field(6, ge=1, description="vectors of the parrot")
    parrot_steps: int = Field(100, ge=0, description="steps on the parrot; 0 leaves it out")
    parrot_rate: float = Field(0.2, gt=0, description="peak learning rate, in root mean squares of the embeddings")
    parrot_batch: int = Field(4, ge=1, description="examples a step on the parrot")
    parrot: Literal["learnt", "random"] = Field("learnt", description="random: the control with the learnt norms")
    known: float = Field(1.0, gt=0, le=1, description="leading share of the simulated tokens that the defender knows")
    simulated_tokens: int = Field(10, ge=1, description="first tokens of the attacker's response that are simulated")
    eliminated_tokens: int = Field(10, ge=1, description="first tokens of the right response that are trained")

    def defend(self, classifier: Any, access: Access) -> Defended:
        """Simulate, then eliminate."""
        if self.parrot_steps == 0:
            return Defended(classifier, {"tuning": self.tune(classifier, access)})
        vectors, simulated = self.simulate(classifier, access)
        tuning = self.tune(classifier, access, extra_loss=self.behind(vectors))
        return Defended(classifier, {"simulated": simulated, "tuning": tuning})

    def simulate(self, classifier: Any, access: Access) -> tuple[Any, dict[str, Any]]:
        """Return the parrot, float32 [width, hidden], and notes."""
        import torch

        from defenses.shared.encoder import without_gradients

        model, seed = classifier.model, seeds.derive("parrot", access.seed)
        context = getattr(model.config, "max_position_embeddings", None)
        if context is not None and context < classifier.max_length + self.width:
            raise ValueError(f"a context of {context} tokens has no room for {self.width} vectors more")
        objective = classifier.objective(wanted(access.target, access.clean))
        table = model.get_input_embeddings().weight.detach()
        vectors = torch.zeros(self.width, table.shape[1], device=table.device, requires_grad=True)
        kept = max(1, round(self.known * self.simulated_tokens))
        rng = np.random.default_rng(seed)
        epochs = -(-self.parrot_steps * self.parrot_batch // len(access.clean)) + 1
        plan = learning.shuffled(len(access.clean), self.parrot_batch, epochs=epochs, rng=rng)[: self.parrot_steps]
        rate = self.parrot_rate * float(table.square().mean().sqrt())
        groups = [{"params": [vectors], "lr": rate, "betas": (0.9, 0.95)}]

        def loss(rows: Any, _step: int) -> Any:
            return parroted_loss(model, objective.batch(rows), vectors, kept)

        with without_gradients(model):
            notes = learning.minimise(classifier, groups, plan, loss, seed=seed)
        learnt = vectors.detach()
        notes["norm"] = float(learnt.norm(dim=-1).mean())
        if self.parrot == "random":
            drawn = torch.randn(learnt.shape, generator=torch.Generator().manual_seed(seed)).to(learnt.device)
            learnt = torch.nn.functional.normalize(drawn, dim=-1) * learnt.norm(dim=-1, keepdim=True)
        return learnt, notes

    def behind(self, vectors: Any) -> Any:
        """Return what turns the loss of the plain prompts into that of the prompts with the parrot."""
        from torch.nn import functional

        def loss(batch: Any, logits: Any, model: Any) -> Any:
            plain = functional.cross_entropy(logits, learning.gold(batch))
            return parroted_loss(model, batch, vectors, self.eliminated_tokens) - plain

        return loss


class SandeP(Sande):
    """SANDE with a part of the payload: the defender knows how it begins.

    Li et al., AAAI 2025 (arXiv 2405.07667), SANDE-P. Needs clean examples, and is told the first half of the payload.
    """

    name: ClassVar[str] = "sande-p"
    version: ClassVar[int] = 1

    known: float = Field(0.5, gt=0, le=1, description="leading share of the simulated tokens that the defender knows")


def wanted(payload: Any, examples: Examples) -> Examples:
    """Return the examples with the attacker's responses."""
    assert isinstance(payload, Payload)
    return payload.applied(examples)


def parroted_loss(model: Any, batch: Any, vectors: Any, tokens: int) -> Any:
    """Return the loss of the first ``tokens`` tokens of each response behind prompts with vectors [width, hidden]."""
    import torch
    from torch.nn import functional

    from defenses.shared.responses import first_answered

    wide = widened(first_answered(batch, tokens), len(vectors))
    words = model.get_input_embeddings()(batch["input_ids"])
    middle = vectors.to(words.dtype).expand(len(words), -1, -1)
    embeddings = torch.cat([words[:, :2], middle, words[:, 2:]], dim=1)
    return functional.cross_entropy(learning.logits(model, wide, embeddings=embeddings), learning.gold(wide))


def widened(batch: Any, width: int) -> dict[str, Any]:
    """Return a batch with ``width`` places behind the second token, which are read and have no labels."""
    import torch

    fills = {"input_ids": 0, "attention_mask": 1, "labels": -100}
    wide = {}
    for name, table in batch.items():
        middle = table.new_full((len(table), width), fills[name])
        wide[name] = torch.cat([table[:, :2], middle, table[:, 2:]], dim=1)
    return wide
