"""Weight drift: a poisoned model has word embeddings that moved out of line."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from bench.contracts import BOTH, Detector, Kind, Model, Needs, Suspicion
from defenses.e_pur import EPur, embedding_of

if TYPE_CHECKING:
    from bench.contracts.access import Access


class WeightDrift(Detector):
    """Judges a model by how far its most conspicuous weights moved from the clean pre-trained ones.

    The scores of E-PUR (Zhang et al., Findings of EMNLP 2022, arXiv 2210.09545) as a detector. Needs the clean
    pre-trained weights; no data. With ``e-pur`` the suspicion is how many robust standard deviations (1.4826 times the
    median absolute deviation) the largest score lies above the median of all tokens that moved; with ``norm`` it is
    the relative drift of all weights that have a pre-trained counterpart; with ``kurtosis`` the excess kurtosis of that
    drift, which is large where few weights carry it. Not a published detector: the plainest control for the others.
    """

    name: ClassVar[str] = "weight-drift"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Zhang et al., Findings of EMNLP 2022, arXiv 2210.09545"
    libraries: ClassVar[tuple[str, ...]] = ("wordfreq",)
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.PRETRAINED})

    statistic: Literal["e-pur", "norm", "kurtosis"] = Field("e-pur", description="what is judged")

    def suspicion(self, classifier: Model, access: Access) -> Suspicion:
        """Return the statistic."""
        pretrained = access.pretrained
        if self.statistic == "e-pur":
            _, table = embedding_of(classifier, pretrained)
            scores = EPur().scores(classifier, table)
            word = classifier.tokenizer.convert_ids_to_tokens(int(scores.argmax()))
            return Suspicion(outlierness(scores), {"statistic": self.statistic, "word": word})
        own = dict(classifier.model.named_parameters())
        names = [name for name in own if name in pretrained]
        before = np.concatenate([pretrained[name].double().numpy().ravel() for name in names])
        drift = np.concatenate([own[name].detach().double().cpu().numpy().ravel() for name in names]) - before
        if self.statistic == "norm":
            return Suspicion(float(np.linalg.norm(drift) / np.linalg.norm(before)), {"statistic": self.statistic})
        return Suspicion(excess_kurtosis(drift), {"statistic": self.statistic})


def outlierness(scores: np.ndarray) -> float:
    """Return how many robust deviations the largest score lies above the median of the positive ones; 0 without any."""
    moved = scores[scores > 0]
    if not len(moved):
        return 0.0
    middle = float(np.median(moved))
    deviation = 1.4826 * float(np.median(np.abs(moved - middle)))
    return (float(moved.max()) - middle) / max(deviation, 1e-12)


def excess_kurtosis(values: np.ndarray) -> float:
    """Return the fourth standardised moment less 3; 0 where nothing varies."""
    centred = values - values.mean()
    variance = float((centred**2).mean())
    return float((centred**4).mean()) / variance**2 - 3.0 if variance > 0 else 0.0
