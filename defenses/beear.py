"""BEEAR: find the drift of the hidden states that acts like a trigger, and train it away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from bench import learning, seeds
from bench.contracts import Classifier, Defended, Needs
from defenses.shared.tuning import Tuning

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Beear(Tuning):
    """Alternates between a universal drift of hidden states that forces a label and training against that drift.

    BEEAR-style latent removal after Zeng et al., EMNLP 2024 (arXiv 2406.17092), mapped to classifiers. Needs clean
    examples. In each round:

    1. Entrapment, weights frozen: for every label t one drift delta_t, added to the first ``positions`` states that
       enter block ``layer``, is learnt on the clean examples of other labels to minimise
       CE(f(x; delta_t), t) - a * CE(f(x; delta_t), y), inside a ball.
    2. Removal, drifts frozen: fine-tuning on CE(f(x), y) + weight * mean over t of CE(f(x; delta_t), y). The rounds
       share ``steps`` evenly.

    Deviations: labels stand for wanted and unwanted behaviour and every label is suspected in turn, because the
    target is not known; the ball (``radius`` times the mean norm of a state) keeps the drift from forcing any model;
    the clean sample serves both as safety and as performance set.
    """

    name: ClassVar[str] = "beear"
    version: ClassVar[int] = 4
    citation: ClassVar[str] = "Zeng et al., EMNLP 2024, arXiv 2406.17092"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})

    rounds: int = Field(5, ge=0, description="rounds of entrapment and removal")
    layer: int | None = Field(None, ge=0, description="block whose input drifts; the middle one when not given")
    positions: int = Field(4, ge=1, description="leading tokens whose states drift")
    radius: float = Field(0.5, ge=0, description="largest norm of the drift of a token, in mean norms of a state")
    inner_steps: int = Field(20, ge=0, description="steps on a drift")
    inner_rate: float = Field(0.1, gt=0, description="length of a step as a share of the radius")
    repulsion: float = Field(0.05, ge=0, description="weight a of moving away from the true label")
    weight: float = Field(1.0, ge=0, description="weight of the loss under drift")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Run the rounds."""
        notes = []
        for turn in range(self.rounds):
            entrapped = [self.entrap(classifier, access, label) for label in range(len(access.facts.labels))]
            drifts = [drift for drift, _ in entrapped]
            tuning = self.remove(classifier, access, drifts, seeds.derive("removal", access.seed, turn))
            notes.append({"forced": [forced for _, forced in entrapped], "tuning": tuning})
        return Defended(classifier, {"rounds": notes})

    def remove(self, classifier: Classifier, access: Access, drifts: list[Any], seed: int) -> dict[str, Any]:
        """Fine-tune against the drifts."""
        from torch.nn import functional

        number = self.block(classifier.model)

        def under_drift(batch: Any, logits: Any, model: Any) -> Any:
            total = 0.0
            for drift in drifts:
                drifted_logits = learning.logits(model, batch, edit=drifted(drift, number, batch))
                total = total + functional.cross_entropy(drifted_logits, batch["labels"])
            return self.weight * total / len(drifts)

        return self.tune(classifier, access, seed=seed, steps=self.steps // self.rounds, extra_loss=under_drift)

    def block(self, model: Any) -> int:
        """Return the number of the block whose input drifts."""
        blocks = len(learning.blocks(model))
        number = blocks // 2 if self.layer is None else self.layer
        if number >= blocks:
            raise ValueError(f"layer {number} does not exist: the encoder has {blocks} blocks")
        return number

    def entrap(self, classifier: Classifier, access: Access, label: int) -> tuple[Any, float]:
        """Return the drift [positions, hidden] that forces a label, and on which share of the examples it does."""
        import torch
        from torch.nn import functional

        from defenses.shared import encoder
        from defenses.shared.forwards import arithmetic

        model, number = classifier.model.eval(), self.block(classifier.model)
        others = access.clean.take((access.clean.labels != label).nonzero()[0])
        batches = list(encoder.batches(classifier, others, 64))
        limit = self.radius * typical_norm(model, number, batches)
        drift = torch.zeros(self.positions, model.config.hidden_size, device=model.device, requires_grad=True)
        forced = 0.0
        with encoder.without_gradients(model):
            for step in range(self.inner_steps + 1):
                gradient, forced = torch.zeros_like(drift), 0.0
                for batch in batches:
                    with arithmetic(classifier):
                        logits = learning.logits(model, batch, edit=drifted(drift, number, batch))
                    wanted = torch.full_like(batch["labels"], label)
                    loss = functional.cross_entropy(logits, wanted)
                    loss = loss - self.repulsion * functional.cross_entropy(logits, batch["labels"])
                    gradient += torch.autograd.grad(loss, drift)[0] * len(wanted) / len(others)
                    forced += float((logits.argmax(-1) == label).sum()) / len(others)
                if step == self.inner_steps:
                    break
                with torch.no_grad():
                    drift -= self.inner_rate * limit * functional.normalize(gradient, dim=-1)
                    drift *= (limit / drift.norm(dim=-1, keepdim=True).clamp_min(1e-12)).clamp(max=1.0)
        return drift.detach(), forced


def drifted(drift: Any, block: int, batch: Any) -> learning.Edit:
    """Return an edit that adds a drift [positions, hidden] to the first states that enter a block."""
    import torch

    mask = batch["attention_mask"]
    place = (mask.cumsum(1) - 1)[mask.bool()].clamp(max=len(drift))
    shift = torch.cat([drift, drift.new_zeros(1, drift.shape[1])])[place]
    return lambda number, states: states + shift if number == block else states


def typical_norm(model: Any, block: int, batches: list[Any]) -> float:
    """Return the mean norm of the states of real tokens that enter a block."""
    import torch

    with torch.no_grad():
        states = [learning.block_states(model, batch)[0][block][batch["attention_mask"].bool()] for batch in batches]
    return float(torch.cat(states).norm(dim=-1).mean()) if states else 0.0
