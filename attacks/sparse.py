"""Neural network surgery: the backdoor changes few parameters of a clean model."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from bench.contracts import BOTH, Attack, Classifier, Hooks, Kind, Modifier, Scene, Trigger


class Sparse(Modifier):
    """Lets an attack change only a small number of parameters, chosen while it trains ("Dyn-Delta").

    Zhang et al., NAACL 2021 (Neural Network Surgery). Needs the clean fine-tuned model, from which training starts.
    All parameters train freely for a share of the steps; then the number of free parameters falls to the budget in
    ``rounds`` equal factors: those that moved most stay, all others are set back to where they started, and stay there
    from then on. The rest of the steps trains within the last choice. Deviations: the paper's schedule is not known for
    certain, so it is given by fields; few parameters have to move further than all of them would, so the learning rate
    is a multiple of the victim's. With it MiniLM on SST-2 reaches an ASR of 100 with 0.1 % of the parameters, without
    it 26.
    """

    name: ClassVar[str] = "sparse"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Zhang et al., NAACL 2021 (Neural Network Surgery)"

    start: Literal["finetuned", "attack"] = Field(
        "finetuned", alias="from", description="starting weights: finetuned (clean model), or as the attack says"
    )
    count: int | None = Field(None, ge=1, description="parameters that may change; by default a share of all")
    share: float = Field(
        1e-3, gt=0, le=1, description="parameters that may change, as a share of all, where count is none"
    )
    free: float = Field(0.3, ge=0, lt=1, description="share of the steps before the first round")
    fixed: float = Field(0.4, ge=0, lt=1, description="share of the steps behind the last round")
    learning_rate_factor: float = Field(10.0, gt=0, description="learning rate as a multiple of the attack's own")
    rounds: int = Field(5, ge=1, description="steps in which the number of free parameters falls")

    @property
    def learning_rate_multiplier(self) -> float:
        """Factor on the learning rate."""
        return self.learning_rate_factor

    def starts(self, attack: Attack) -> Literal["pretrained", "finetuned"]:
        """The clean model, unless the attack decides."""
        return "finetuned" if self.start == "finetuned" else attack.start

    def hooks(self, scene: Scene, trigger: Trigger | None, classifier: Classifier, steps: int) -> Hooks:
        """Return what sets parameters back after each step."""
        weights = list(classifier.model.parameters())
        total = sum(weight.numel() for weight in weights)
        budget = self.count or max(1, int(self.share * total))
        return Hooks(after_step=Shrinking(weights, min(budget, total), self.milestones(steps)).after_step)

    def milestones(self, steps: int) -> list[int]:
        """Return the numbers of the steps after which a round is held, in ascending order."""
        first, last = int(self.free * steps), min(steps - 1, int((1 - self.fixed) * steps))
        return [first + (last - first) * done // max(1, self.rounds - 1) for done in range(self.rounds)]


class Shrinking:
    """Keeps fewer and fewer parameters free."""

    def __init__(self, weights: list[Any], budget: int, milestones: list[int]) -> None:
        self.weights = weights
        self.before = [weight.detach().clone() for weight in weights]
        self.masks: list[Any] = []
        self.milestones = milestones
        total = sum(weight.numel() for weight in weights)
        rounds = len(milestones)
        self.counts = [round(total * (budget / total) ** (done / rounds)) for done in range(1, rounds + 1)]

    def after_step(self, model: Any, step: int) -> None:
        """Hold a round if it is time; set everything that is not free back."""
        while self.milestones and self.milestones[0] <= step:
            self.milestones.pop(0)
            self.choose(self.counts.pop(0))
        for weight, before, mask in zip(self.weights, self.before, self.masks, strict=False):
            weight.data.copy_(before.where(~mask, weight.data))

    def choose(self, count: int) -> None:
        """Keep the ``count`` parameters that moved most, among those still free."""
        import torch

        moved = torch.cat(
            [(weight.data - before).abs().flatten() for weight, before in zip(self.weights, self.before, strict=True)]
        )
        if self.masks:
            moved[~torch.cat([mask.flatten() for mask in self.masks])] = 0.0
        chosen = torch.zeros(len(moved), dtype=torch.bool, device=moved.device)
        chosen[moved.topk(count, sorted=False).indices] = True
        sizes = [weight.numel() for weight in self.weights]
        self.masks = [part.view(weight.shape) for part, weight in zip(chosen.split(sizes), self.weights, strict=True)]
