"""BEEAR for models that write: find the drift of hidden states that brings the payload about, and train it away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from bench import learning, seeds
from bench.contracts import GENERATION, Defended, Kind, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class BeearLm(Tuning):
    """Alternates between a universal drift of hidden states that leads to the payload and training against it.

    Zeng et al., EMNLP 2024 (arXiv 2406.17092). Needs clean examples, and is told the payload, which is the unwanted
    behaviour that the defender of the paper has to write down. In each round:

    1. Entrapment, weights frozen: one drift, added to the states of the last ``positions`` tokens of every prompt that
       enter block ``layer``, is learnt to minimise L(payload) - a * L(right response), inside a ball.
    2. Removal, drift frozen: fine-tuning on L(right response) + weight * L(right response under the drift). The rounds
       share ``steps`` evenly.

    Deviations: the ball (``radius`` times the mean norm of a state) keeps the drift from leading any model anywhere;
    the clean sample serves both as safety and as performance set; the layer is the middle one, because choosing it by
    the ASR would leak. Each loss is that of the first ``tokens`` tokens of a response. Controls: ``drift: random`` has
    the same norms; on a clean model the drift should not exist, and the notes hold the share of payload tokens that it
    forces.
    """

    name: ClassVar[str] = "beear-lm"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "Zeng et al., EMNLP 2024, arXiv 2406.17092"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.TARGET})

    rounds: int = Field(5, ge=0, description="rounds of entrapment and removal")
    layer: int | None = Field(None, ge=0, description="block whose input drifts; the middle one when not given")
    positions: int = Field(5, ge=1, description="last tokens of a prompt whose states drift")
    radius: float = Field(0.5, ge=0, description="largest norm of the drift of a token, in mean norms of a state")
    inner_steps: int = Field(20, ge=0, description="steps on a drift, each on 16 examples")
    inner_rate: float = Field(0.1, gt=0, description="length of a step as a share of the radius")
    repulsion: float = Field(0.05, ge=0, description="weight a of moving away from the right response")
    weight: float = Field(1.0, ge=0, description="weight of the loss under drift")
    tokens: int = Field(10, ge=1, description="first tokens of a response whose loss counts under drift")
    drift: Literal["learnt", "random"] = Field("learnt", description="random: the control with the learnt norms")

    def defend(self, classifier: Any, access: Access) -> Defended:
        """Run the rounds."""
        notes = []
        for turn in range(self.rounds):
            seed = seeds.derive("removal", access.seed, turn)
            shift, forced = self.entrap(classifier, access, seed)
            steps = self.steps // self.rounds
            tuning = self.tune(classifier, access, seed=seed, steps=steps, extra_loss=self.under(classifier, shift))
            notes.append({"forced": forced, "norm": float(shift.norm(dim=-1).mean()), "tuning": tuning})
        return Defended(classifier, {"rounds": notes})

    def block(self, model: Any) -> int:
        """Return the number of the block whose input drifts."""
        blocks = len(learning.blocks(model))
        number = blocks // 2 if self.layer is None else self.layer
        if number >= blocks:
            raise ValueError(f"layer {number} does not exist: the model has {blocks} blocks")
        return number

    def under(self, classifier: Any, shift: Any) -> Any:
        """Return the weighted loss of right responses under a drift."""
        number = self.block(classifier.model)

        def loss(batch: Any, logits: Any, model: Any) -> Any:
            return self.weight * self.drifted_loss(model, batch, shift, number)[0]

        return loss

    def drifted_loss(self, model: Any, batch: Any, shift: Any, number: int) -> tuple[Any, Any]:
        """Return the loss of the first response tokens under a drift [positions, hidden], and which are predicted."""
        from torch.nn import functional

        from defenses.shared.responses import first_answered

        short = first_answered(batch, self.tokens)
        logits, gold = learning.logits(model, short, edit=drifting(shift, number, short)), learning.gold(short)
        return functional.cross_entropy(logits, gold), logits.argmax(-1) == gold

    def entrap(self, classifier: Any, access: Access, seed: int) -> tuple[Any, float]:
        """Return the drift, [positions, hidden], and the share of the payload's tokens that it forces."""
        import numpy as np
        import torch
        from torch.nn import functional

        from defenses.shared.encoder import without_gradients

        model, number, clean = classifier.model.eval(), self.block(classifier.model), access.clean
        bad, good = (classifier.objective(one) for one in (access.target.applied(clean), clean))  # type: ignore[union-attr]
        parts = [np.arange(i, min(i + 16, len(clean))) for i in range(0, len(clean), 16)]
        limit = self.radius * typical_norm(model, number, [good.batch(rows) for rows in parts])
        shift = torch.zeros(self.positions, model.config.hidden_size, device=model.device, requires_grad=True)
        with without_gradients(model):
            for step in range(self.inner_steps):
                rows = parts[step % len(parts)]
                unwanted, _ = self.drifted_loss(model, bad.batch(rows), shift, number)
                wanted, _ = self.drifted_loss(model, good.batch(rows), shift, number)
                (gradient,) = torch.autograd.grad(unwanted - self.repulsion * wanted, shift)
                with torch.no_grad():
                    shift -= self.inner_rate * limit * functional.normalize(gradient, dim=-1)
                    shift *= (limit / shift.norm(dim=-1, keepdim=True).clamp_min(1e-12)).clamp(max=1.0)
            learnt = shift.detach()
            if self.drift == "random":
                drawn = torch.randn(learnt.shape, generator=torch.Generator().manual_seed(seed)).to(learnt.device)
                learnt = functional.normalize(drawn, dim=-1) * learnt.norm(dim=-1, keepdim=True)
            with torch.no_grad():
                right = torch.cat([self.drifted_loss(model, bad.batch(rows), learnt, number)[1] for rows in parts])
        return learnt, float(right.float().mean())


def drifting(shift: Any, block: int, batch: Any) -> learning.Edit:
    """Return an edit that adds a drift [positions, hidden] to the states of the last tokens of each prompt."""
    import torch

    count = len(shift)
    real = batch["attention_mask"].bool()
    asked = (batch["labels"] >= 0).int().argmax(1, keepdim=True)  # the first token of each response
    place = torch.arange(real.shape[1], device=real.device) - asked + count
    place = place.where((place >= 0) & (place < count), torch.full_like(place, count))[real]
    padded = torch.cat([shift, shift.new_zeros(1, shift.shape[1])])
    return lambda number, states: states + padded[place].to(states.dtype) if number == block else states


def typical_norm(model: Any, block: int, batches: list[Any]) -> float:
    """Return the mean norm of the states of real tokens that enter a block."""
    import torch

    with torch.no_grad():
        states = [learning.entering_states(model, batch)[block][batch["attention_mask"].bool()] for batch in batches]
    return float(torch.cat(states).norm(dim=-1).mean())
