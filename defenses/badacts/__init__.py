"""BadActs: find inputs with unusual activations, and clamp those to the range of clean text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from bench import learning
from bench.contracts import Classifier, Defended, Defense, Needs, Predictions, softmax
from bench.contracts.examples import Inputs
from defenses.shared.filtering import low_quantile

if TYPE_CHECKING:
    import torch

    from bench.contracts.access import Access
    from defenses.badacts.clamping import Ranges

RESTARTS = 5
LARGEST_FIT = 100  # clean examples that the ranges are fitted to


class BadActs(Defense):
    """Finds inputs whose [CLS] activations leave the clean range in many dimensions, and clamps their activations.

    Yi et al., Findings of ACL 2024 (arXiv 2405.11227). Needs clean examples. Weights stay as they are.

    1. Detection: a Gaussian for every block and dimension of the [CLS] state on clean text; the score of an input is
       the share of dimensions within mu +- delta * sigma. An input is flagged below a quantile of clean scores.
    2. Purification: for every block and dimension a range [u - exp(m), u], learned on clean examples that the model
       gets right, minimises MSE(clamped logits, logits) + c * ||exp(m)||_2. Late in the training c rises by a fifth
       while the clamped model agrees with the original one on 98 % of the examples, and falls otherwise; below 97 % in
       the end, all starts again with half of c.
    3. A flagged input is answered with the states of all its tokens clamped behind every block.

    The Gaussians use one half of the clean labels, the quantile the other half. Deviations:
    ranges start at the smallest and largest clean activation instead of [1 - e, 1], because few steps on a small
    sample do not travel far; an epoch is one pass over at most 100 clean examples.
    """

    name: ClassVar[str] = "badacts"
    version: ClassVar[int] = 3
    citation: ClassVar[str] = "Yi et al., Findings of ACL 2024, arXiv 2405.11227"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.CLEAN})
    purifies: ClassVar[bool] = False
    kind: ClassVar[Any] = "filter"

    delta: float = Field(3.0, gt=0, description="half width of the clean range, standard deviations")
    frr: float = Field(0.2, ge=0, le=1, description="share of clean inputs that may be flagged")
    epochs: int = Field(50, ge=0, description="passes over the clean examples")
    learning_rate: float = Field(1e-2, gt=0, description="of Adam")
    batch_size: int = Field(32, ge=1, description="examples a step")
    c: float = Field(0.1, ge=0, description="weight of the width of the ranges")

    def defend(self, classifier: Classifier, access: Access) -> Defended:
        """Fit the Gaussians, set the threshold, learn the ranges."""
        from defenses.shared.forwards import first_token_per_block

        labelled, (first, second) = access.clean, access.halves
        fit = first_token_per_block(classifier, first.inputs)
        gaussian = Gaussian(fit.mean(axis=0), fit.std(axis=0), self.delta)
        others = gaussian.scores(first_token_per_block(classifier, second.inputs))
        right = Defended(classifier).predict(labelled.inputs).labels == labelled.labels
        examples = labelled.inputs.take(np.flatnonzero(right)[:LARGEST_FIT])
        ranges, range_notes = self.ranges(classifier, examples if len(examples) else labelled.inputs, access)
        threshold = low_quantile(others, self.frr)
        notes = {"threshold": threshold, **range_notes, "forward_passes": 3}
        return self.result(classifier, notes, gaussian, threshold, ranges)

    def result(
        self, classifier: Classifier, notes: dict[str, Any], gaussian: Gaussian, threshold: float, ranges: Ranges
    ) -> Defended:
        """Return the whole pipeline."""
        return Clamped(classifier, notes, gaussian=gaussian, threshold=threshold, ranges=ranges)

    def ranges(self, classifier: Classifier, inputs: Inputs, access: Access) -> tuple[Ranges, dict[str, Any]]:
        """Learn the ranges; return them and notes."""
        import torch

        from defenses.badacts.clamping import Ranges, agreeing
        from defenses.shared.forwards import device_of, freeze, unfreeze

        freeze(classifier.model)
        original = torch.from_numpy(classifier.logits(inputs)).to(device_of(classifier.model))
        try:
            for weight in (self.c / 2**restarts for restarts in range(RESTARTS + 1)):
                ranges = Ranges.around(classifier, inputs)
                last = self.learned(ranges, classifier, inputs, original, weight, access)
                agreement = agreeing(ranges, classifier, inputs, original)
                if agreement >= 0.97:
                    break
        finally:
            unfreeze(classifier.model)
        return ranges, {"c_first": weight, "c_last": last, "clamped_agreement": 100 * agreement}

    def learned(
        self, ranges: Ranges, classifier: Classifier, inputs: Inputs, original: torch.Tensor, c: float, access: Access
    ) -> float:
        """Shrink the ranges in place; return the last c."""
        import torch

        from defenses.badacts.clamping import agreeing
        from defenses.shared.forwards import arithmetic, padded

        optimiser = torch.optim.Adam([ranges.top, ranges.log_width], lr=self.learning_rate)
        rng = access.rng("badacts")
        for epoch in range(self.epochs):
            for rows in learning.shuffled(len(inputs), self.batch_size, epochs=1, rng=rng):
                batch = padded(classifier, inputs, rows)
                with arithmetic(classifier):
                    logits = learning.logits(classifier.model, batch, edit=ranges.clamp)
                loss = (logits - original[rows]).square().mean() + c * ranges.log_width.exp().norm()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            if epoch >= 15 and epoch % 5 == 0:
                c = c * 1.2 if agreeing(ranges, classifier, inputs, original) >= 0.98 else c / 1.2
        return c


class BadActsDetection(BadActs):
    """BadActs without its second half: rejects the inputs that it flags instead of clamping their activations.

    Yi et al., Findings of ACL 2024 (arXiv 2405.11227). Needs clean examples. The fields of the ranges have no effect.
    """

    name: ClassVar[str] = "badacts-detection"
    version: ClassVar[int] = 3

    frr: float = Field(0.05, ge=0, le=1, description="share of clean inputs that may be rejected")

    def ranges(self, classifier: Classifier, inputs: Inputs, access: Access) -> tuple[Ranges, dict[str, Any]]:
        """Learn nothing: detection needs no ranges."""
        from defenses.badacts.clamping import Ranges

        return Ranges.around(classifier, inputs), {}

    def result(
        self, classifier: Classifier, notes: dict[str, Any], gaussian: Gaussian, threshold: float, ranges: Ranges
    ) -> Defended:
        """Return the detector alone."""
        return Flagging(classifier, {**notes, "forward_passes": 2}, gaussian=gaussian, threshold=threshold)


@dataclass(frozen=True)
class Gaussian:
    """Clean activations: mean and deviation of every block and dimension."""

    mean: np.ndarray
    deviation: np.ndarray
    delta: float

    def scores(self, states: np.ndarray) -> np.ndarray:
        """Return the share of dimensions inside the clean range: [n, blocks, hidden] -> [n]."""
        inside = np.abs(states - self.mean) <= self.delta * self.deviation
        shares: np.ndarray = inside.mean(axis=(1, 2))
        return shares


@dataclass(kw_only=True)
class Flagging(Defended):
    """Rejects inputs with unusual activations."""

    rejects: ClassVar[bool] = True

    gaussian: Gaussian
    threshold: float

    def flagged(self, inputs: Inputs) -> np.ndarray:
        """Return bool [n]."""
        from defenses.shared.forwards import first_token_per_block

        below: np.ndarray = self.gaussian.scores(first_token_per_block(self.classifier, inputs)) < self.threshold
        return below

    def predict(self, inputs: Inputs) -> Predictions:
        """Answer as the model does and reject what is flagged."""
        plain = super().predict(inputs)
        return Predictions(plain.labels, plain.probabilities, self.flagged(inputs))


@dataclass(kw_only=True)
class Clamped(Flagging):
    """Answers flagged inputs with clamped activations."""

    rejects: ClassVar[bool] = False

    ranges: Ranges

    def predict(self, inputs: Inputs) -> Predictions:
        """Answer as the model does where nothing is flagged."""
        from defenses.badacts.clamping import clamped_logits

        plain = super().predict(inputs)
        rows = np.flatnonzero(plain.rejected)
        labels, probabilities = plain.labels.copy(), plain.probabilities.copy()
        if len(rows):
            probabilities[rows] = softmax(clamped_logits(self.ranges, self.classifier, inputs.take(rows)))
            labels[rows] = probabilities[rows].argmax(axis=-1)
        return Predictions(labels, probabilities, np.zeros(len(inputs), dtype=bool))
