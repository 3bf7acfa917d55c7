"""DBS: invert a trigger by descent over soft words whose temperature follows the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench import learning, seeds
from bench.contracts import Classifier, Detector, Needs, Suspicion
from bench.contracts.examples import Inputs

if TYPE_CHECKING:
    import torch

    from bench.contracts.access import Access
    from defenses.dbs.search import Trigger


class Dbs(Detector):
    """Searches for each label a few words that turn all clean inputs into it, and judges by how well they work.

    After dynamic bound scaling, Shen et al., ICML 2022 (arXiv 2202.05749). Needs clean examples and the clean
    pre-trained weights.

    1. For every possible target label: the trigger is a row of soft words, softmax(V / T) over the vocabulary, behind
       the first token of clean inputs of other labels. V minimises the cross-entropy to the target, plus a hinge that
       keeps a benign model's loss on those inputs from falling below a bound, so that no ordinary word will do.
    2. Once the loss has been below its bound, the temperature T follows: every few steps it is halved while the loss
       is below, otherwise V gets noise and T is doubled (at most to its start). The bound is halved each time that
       the hard words reach it and doubled after five rollbacks.
    3. The score of a label is the lowest loss that hard words (the highest entry of V) reached on the inputs, where the
       benign model is not fooled; the suspicion is minus the lowest over labels.

    Deviations: the benign model is the clean encoder fine-tuned on the clean sample, as a defender without a clean
    model of the task can have it, and weaker than the paper's; shorter triggers and fewer steps by default; only words
    that spell letters are searched; one place of insertion; every label against all others instead of pairs.
    """

    name: ClassVar[str] = "dbs"
    version: ClassVar[int] = 4
    citation: ClassVar[str] = "Shen et al., ICML 2022, arXiv 2202.05749"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN, Needs.PRETRAINED})

    words: int = Field(3, ge=1, description="length of the trigger")
    samples: int = Field(16, ge=1, description="clean inputs that are turned")
    steps: int = Field(100, ge=1, description="steps for each label")
    learning_rate: float = Field(0.5, gt=0, description="of Adam, halved every 50 steps")
    every: int = Field(5, ge=1, description="steps between changes of the temperature")
    start: float = Field(2.0, gt=0, description="highest temperature")
    bound: float = Field(0.5, gt=0, description="first bound of the loss")
    noise: float = Field(10.0, ge=0, description="size of the noise at a rollback")
    benign: float = Field(1.0, ge=0, description="weight of the benign model's hinge")
    benign_bound: float = Field(0.5, ge=0, description="loss towards the target that the benign model must keep, nats")

    def suspicion(self, classifier: Classifier, access: Access) -> Suspicion:
        """Invert a trigger for each label."""
        from defenses.shared.forwards import freeze

        reference = access.untrained()
        settings = {"steps": 200, "until_loss": 0.05, "batch_size": 16, "learning_rate": access.budget.learning_rate}
        learning.train(reference, access.clean, seed=access.seed, precision=access.precision, **settings)
        words = searchable(classifier)
        freeze(classifier.model)
        freeze(reference.model)
        triggers = {}
        for label in range(len(access.facts.labels)):
            rows = np.flatnonzero(access.clean.labels != label)[: self.samples]
            if len(rows):
                inputs = access.clean.inputs.take(rows)
                triggers[label] = self.inverted(classifier, reference, inputs, label, words, access.seed)
        best = min(triggers, key=lambda label: triggers[label].loss)
        tokens = {str(k): classifier.tokenizer.convert_ids_to_tokens(v.tokens) for k, v in triggers.items()}
        losses = {str(k): v.loss for k, v in triggers.items()}
        return Suspicion(-triggers[best].loss, {"label": best, "losses": losses, "triggers": tokens})

    def inverted(
        self, classifier: Classifier, reference: Classifier, inputs: Inputs, label: int, words: torch.Tensor, seed: int
    ) -> Trigger:
        """Return the best hard trigger for a label."""
        import torch

        from defenses.dbs.search import Search, Trigger

        settings = {"length": self.words, "benign": self.benign, "benign_bound": self.benign_bound}
        search = Search(classifier, reference, inputs, label, words, **settings)
        generator = torch.Generator().manual_seed(seeds.derive("dbs", seed, label))
        values = torch.rand(self.words, len(words), generator=generator).to(words.device).requires_grad_()
        optimiser = torch.optim.Adam([values], lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, 50, 0.5)
        temperature, bound, rollbacks, started = self.start, self.bound, 0, False
        best = Trigger([], float("inf"))
        for step in range(1, self.steps + 1):
            loss, own = search.soft((values / temperature).softmax(-1))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if step % self.every and step != self.steps:
                continue
            hard = search.hard(values.detach())
            best = min(best, hard, key=lambda trigger: trigger.loss)
            started = started or own < bound
            if not started:
                continue
            if own < bound:
                temperature /= 2
                if hard.loss < bound:
                    bound /= 2
            else:
                rollbacks += 1
                shake = torch.randn(values.shape, generator=generator).to(words.device)
                values.data += self.noise * shake
                temperature = min(self.start, 2 * temperature)
                if rollbacks % 5 == 0:
                    bound *= 2
        return best


def searchable(classifier: Classifier) -> torch.Tensor:
    """Return the ids of the vocabulary entries that spell letters, int64, on the model's device."""
    import torch

    from defenses.shared.forwards import device_of

    tokenizer: Any = classifier.tokenizer
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = set(tokenizer.all_special_ids)
    ids = [i for i, name in enumerate(names) if i not in special and name and name.strip("#Ġ▁").isalpha()]
    return torch.tensor(ids, device=device_of(classifier.model))
