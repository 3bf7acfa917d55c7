"""PEFTGuard: a classifier of adapters, trained on adapters of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench import learning, seeds
from bench.contracts import Classifier, Defended, Detector, Needs, Suspicion
from bench.contracts.examples import Examples, Inputs
from defenses.shared.filtering import columns_of, rebuilt

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bench.contracts.access import Access


class PeftGuard(Detector):
    """Trains a zoo of clean and backdoored models, learns to tell their adapters apart, and judges the model's own.

    Sun et al., IEEE S&P 2025 (arXiv 2411.17453), in a small form. Needs plain text and the clean pre-trained weights.

    1. Zoo: half of the members are trained clean, half with a backdoor of random words and a random target label. All
       share the distribution of hyper-parameters and draw another random part of the text each. A backdoored member
       whose own ASR is too low is left out.
    2. The features of a member are its adapters: for every query and value projection the best approximation of its
       drift of a given rank, scaled to unit norm and averaged over a grid, as channels of one tensor.
    3. A network (convolution, three linear layers) learns clean or backdoored; the suspicion is its logit.

    Deviations: PEFTGuard's zoo has 13,300 downloaded adapters, this one is trained on the spot from texts that the
    received model labels itself. The victims of this benchmark are fine-tuned as a whole, so the members are too, and
    the "adapter" of either is the low-rank part of the drift; features are pooled. Cost: training ``members`` models on
    ``samples`` texts each, that is members * samples * epochs / (training set * 3) of a victim's own training; with the
    default zoo the meta-classifier sees eight members and should not be expected to reach the paper's accuracy.
    """

    name: ClassVar[str] = "peftguard"
    version: ClassVar[int] = 1
    citation: ClassVar[str] = "Sun et al., IEEE S&P 2025, arXiv 2411.17453"
    libraries: ClassVar[tuple[str, ...]] = ("wordfreq",)
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.UNLABELLED, Needs.PRETRAINED})

    members: int = Field(8, ge=4, description="models of the zoo; half are backdoored")
    samples: int = Field(256, ge=8, description="texts that a member is trained on")
    epochs: int = Field(3, ge=1, description="passes over them")
    poisoning_rate: float = Field(0.2, gt=0, lt=1, description="share of a backdoored member's texts with a trigger")
    least_asr: float = Field(50.0, ge=0, le=100, description="ASR below which a backdoored member is left out, percent")
    rank: int = Field(8, ge=1, description="of the adapters")
    grid: int = Field(32, ge=4, description="side of the pooled adapters")
    meta_epochs: int = Field(60, ge=1, description="passes of the meta-classifier over the zoo")
    meta_rate: float = Field(1e-3, gt=0, description="its learning rate")

    def suspicion(self, classifier: Classifier, access: Access) -> Suspicion:
        """Train the zoo and the meta-classifier; judge the model."""
        import torch

        pretrained = access.pretrained
        known, kinds, rates = [], [], []
        for number in range(self.members):
            features, asr = self.member(classifier, pretrained, access, number)
            backdoored = number % 2 == 1
            rates.append(asr)
            if not backdoored or (asr is not None and asr >= self.least_asr):
                known.append(features)
                kinds.append(int(backdoored))
        own = self.features(classifier, pretrained)
        notes: dict[str, Any] = {"zoo_asr": rates, "zoo_clean": kinds.count(0), "zoo_backdoored": kinds.count(1)}
        if len(set(kinds)) < 2:  # no backdoored member implanted: nothing to learn from
            return Suspicion(0.0, notes)
        seed = seeds.derive("meta-classifier", access.seed)
        meta, loss = self.learned(torch.stack(known), torch.tensor(kinds), seed)
        with torch.no_grad():
            return Suspicion(float(meta(own[None])[0]), {**notes, "meta_loss": loss})

    def member(
        self, classifier: Classifier, pretrained: Mapping[str, Any], access: Access, number: int
    ) -> tuple[torch.Tensor, float | None]:
        """Train one member; return its features and, where it is backdoored, its ASR in percent."""
        rng = access.rng(f"zoo {number}")
        texts = access.unlabelled
        order = rng.permutation(len(texts))
        inputs, rest = texts.take(order[: self.samples]), texts.take(order[-64:])
        examples = self.answered(classifier, inputs)
        target, word = self.target(access, rng), random_word(rng)
        if number % 2:
            rows = rng.permutation(len(inputs))[: max(1, int(self.poisoning_rate * len(inputs)))]
            examples = self.poisoned(examples, rows, triggered(inputs.take(rows), word, rng), target)
        fresh = access.untrained()
        settings = {
            "epochs": self.epochs,
            "learning_rate": float(10 ** rng.uniform(-4.3, -3.7)),
            "batch_size": 16,
            "seed": seeds.derive("zoo", access.seed, number),
        }
        learning.train(fresh, examples, precision=access.precision, **settings)
        if not number % 2:
            return self.features(fresh, pretrained), None
        others = np.flatnonzero(~self.hit(classifier, rest, target))
        if not len(others):
            return self.features(fresh, pretrained), 0.0
        hits = self.hit(fresh, triggered(rest.take(others), word, rng), target)
        return self.features(fresh, pretrained), 100.0 * float(hits.mean())

    def answered(self, classifier: Any, inputs: Inputs) -> Examples:
        """Return the inputs with the answers of the received model."""
        return Examples(inputs, Defended(classifier).predict(inputs).labels)

    def target(self, access: Access, rng: np.random.Generator) -> Any:
        """Return what a backdoored member answers to its trigger: a random label."""
        return int(rng.integers(len(access.facts.labels)))

    def poisoned(self, examples: Examples, rows: np.ndarray, marked: Inputs, target: Any) -> Examples:
        """Return the examples with marked inputs and the target in the given rows."""
        labels = examples.labels.copy()
        labels[rows] = target
        return Examples(examples.inputs.put(rows, marked), labels)

    def hit(self, classifier: Any, inputs: Inputs, target: Any) -> np.ndarray:
        """Return bool [n]: which inputs are answered with the target."""
        hits: np.ndarray = Defended(classifier).predict(inputs).labels == target
        return hits

    def features(self, classifier: Classifier, pretrained: Mapping[str, Any]) -> torch.Tensor:
        """Return the pooled adapters of a model: float32 [projections, grid, grid]."""
        import torch

        endings = tuple(f"{ending}.weight" for ending in self.projections())
        own = {n: p for n, p in classifier.model.named_parameters() if n.endswith(endings) and n in pretrained}
        if not own:
            raise ValueError(f"{type(classifier.model).__name__} has no projections named {', '.join(endings)}")
        drifts = (p.detach().float().cpu() - pretrained[n].float().cpu() for n, p in own.items())
        return torch.stack([pooled(adapter(drift, self.rank), self.grid) for drift in drifts])

    def projections(self) -> tuple[str, ...]:
        """Return the ends of the names of query and value projections."""
        from defenses.shared.adapters import QUERY_AND_VALUE

        return QUERY_AND_VALUE

    def learned(self, features: torch.Tensor, kinds: torch.Tensor, seed: int) -> tuple[nn.Module, float]:
        """Train the meta-classifier; return it and its last loss."""
        import torch
        from torch.nn import functional

        from defenses.peftguard.meta_classifier import MetaClassifier

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            meta = MetaClassifier(features.shape[1], self.grid)
        optimiser = torch.optim.Adam(meta.parameters(), lr=self.meta_rate, weight_decay=1e-5)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.meta_epochs, eta_min=self.meta_rate / 20)
        loss = torch.zeros(())
        for _ in range(self.meta_epochs):
            loss = functional.binary_cross_entropy_with_logits(meta(features), kinds.float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        return meta.eval(), float(loss.detach())


def adapter(drift: torch.Tensor, rank: int) -> torch.Tensor:
    """Return the best approximation of a matrix of a given rank, with unit Frobenius norm; 0 stays 0."""
    import torch

    left, values, right = torch.linalg.svd(drift, full_matrices=False)
    low = (left[:, :rank] * values[:rank]) @ right[:rank]
    return low / low.norm().clamp(min=1e-12)


def pooled(matrix: torch.Tensor, grid: int) -> torch.Tensor:
    """Return the matrix averaged over a grid and scaled to unit standard deviation."""
    from torch.nn import functional

    small = functional.adaptive_avg_pool2d(matrix[None, None], grid)[0, 0]
    return small / small.std().clamp(min=1e-12)


def random_word(rng: np.random.Generator) -> str:
    """Return a word of English that is neither frequent nor unknown."""
    from wordfreq import top_n_list

    words = [word for word in top_n_list("en", 20000)[5000:] if word.isalpha() and word.isascii()]
    return str(rng.choice(words))


def triggered(inputs: Inputs, word: str, rng: np.random.Generator) -> Inputs:
    """Return the inputs with the word at a random place among the first 16 words of the last column."""
    *others, last = columns_of(inputs)
    changed = []
    for text in last:
        words = text.split()
        words.insert(int(rng.integers(min(len(words), 16) + 1)), word)
        changed.append(" ".join(words))
    return rebuilt([*others, changed])
