"""The statistics behind every interval, rank and verdict: pure functions of per-example outcomes.

Two sources of chance count: trainings (a seed on one task and model) and test examples. Every seed, attack and defense
of a task is judged on the same test set, so an example is drawn for all of them at once; drawing anew for each would
pretend that there are as many independent examples as seeds, attacks and defenses times the test set.

* An **interval** is that of a bootstrap over trainings and examples together. It never leaves the range of the data.
  Percentile intervals of few trainings are too short; their tails are widened as Student's t would be (Hesterberg, The
  American Statistician 2015), with the degrees of freedom that the trainings' share of the variance leaves.
* A **test** flips the signs of the trainings (Fisher's randomisation): it assumes no distribution, and n trainings
  cannot give a p-value below 1 in 2^n. The noise of the examples is added to its null distribution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Runs = Mapping[int, FloatArray]  # seed -> 1, 0, or NaN where it does not count, for each of the same examples
DRAWS = 2000
LEVEL = 0.95
MOST_ENUMERATED = 14  # trainings; beyond, signs are drawn


@dataclass(frozen=True)
class Estimate:
    """A mean with its uncertainty.

    Attributes:
        value: in percentage points.
        low, high: ends of the interval; with one training it speaks of test examples only.
        trainings: [trainings] what each adds to the mean; they sum to ``value``.
        shares: [trainings] how much of the mean each is; they sum to 1.
        noise: [draws] what drawn test examples add to it; their mean is 0.
    """

    value: float
    low: float
    high: float
    trainings: FloatArray = field(default_factory=lambda: np.zeros(0), compare=False, repr=False)
    shares: FloatArray = field(default_factory=lambda: np.zeros(0), compare=False, repr=False)
    noise: FloatArray = field(default_factory=lambda: np.zeros(1), compare=False, repr=False)

    @property
    def seeds(self) -> int:
        """How many independent trainings are behind it."""
        return len(self.trainings)

    def p_above(self, bound: float) -> float:
        """Return the one-sided p-value of "the truth is at most ``bound``": small where it lies above."""
        return sign_flip(self.trainings - bound * self.shares, self.noise)

    def p_below(self, bound: float) -> float:
        """Return the one-sided p-value of "the truth is at least ``bound``": small where it lies below."""
        return sign_flip(bound * self.shares - self.trainings, -self.noise)

    def p_within(self, margin: float) -> float:
        """Return the p-value of "the truth is ``margin`` or more away from 0": two one-sided tests."""
        return max(self.p_above(-margin), self.p_below(margin))

    def trainings_needed(self, bound: float, *, alpha: float, power: float = 0.8) -> int:
        """Return how many trainings would decide on which side of a bound the truth lies, if it is as estimated.

        The spread is that of the trainings seen, and the normal approximation is used; at least as many as the
        sign-flip test needs to reach ``alpha`` at all.

        Args:
            bound: the value to be told from.
            alpha: one-sided level, corrected for the number of tests.
            power: the chance to decide.
        """
        from scipy import stats

        least = int(np.ceil(-np.log2(alpha)))
        spread = float((self.trainings / self.shares).std(ddof=1)) if self.seeds > 1 else np.inf
        distance = abs(self.value - bound)
        if spread <= 1e-12:
            return least
        quantiles = float(stats.norm.ppf(1 - alpha) + stats.norm.ppf(power))
        needed = np.inf if distance <= 1e-12 else (quantiles * spread / distance) ** 2
        return max(least, int(min(np.ceil(needed), 10**6)))


def sign_flip(excess: FloatArray, noise: FloatArray) -> float:
    """Return the p-value of "the sum of the truth behind ``excess`` is at most 0".

    Args:
        excess: [trainings] what each lies above the bound.
        noise: [draws] of what they share, centred.
    """
    count, total = len(excess), float(excess.sum())
    if count <= MOST_ENUMERATED:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        signs = 1.0 - 2.0 * bits  # the first is the identity
    else:
        rng = np.random.default_rng(0)
        signs = np.vstack([np.ones(count), rng.choice([-1.0, 1.0], (2**MOST_ENUMERATED - 1, count))])
    flipped = signs[1:] @ excess
    at_least = 1 - np.searchsorted(np.sort(noise), total - flipped - 1e-9) / len(noise)
    return float((1 + at_least.sum()) / len(signs))


@lru_cache(maxsize=4)
def resampled(examples: int, seed: tuple[int, ...], draws: int = DRAWS) -> NDArray[np.float32]:
    """Return how often each example is drawn: [examples, draws].

    Args:
        examples: of a test set, at least 1.
        seed: of the test set, so that whatever is judged on it shares its draws.
        draws: bootstrap samples.
    """
    if examples == 0:
        raise ValueError("no examples to draw from")
    rng, times = np.random.default_rng(seed), np.empty((draws, examples), dtype=np.float32)
    for of_one in times:
        of_one[:] = np.bincount(rng.integers(0, examples, examples), minlength=examples)
    return np.ascontiguousarray(times.T)


def example_draws(outcomes: ArrayLike, times: NDArray[np.float32]) -> FloatArray:
    """Return means over resampled examples: [..., examples] to [..., draws]; all leading entries share each draw.

    An example that is NaN in an entry does not count there; a draw where none counts is NaN.

    Args:
        outcomes: of examples; where they are 1 and 0 sums are exact, as single precision holds them.
        times: [examples, draws] how often each is drawn.
    """
    data = np.asarray(outcomes, dtype=np.float64)
    flat = data.reshape(-1, data.shape[-1])
    absent = np.isnan(flat)
    partly = absent.any(axis=1)
    counted = np.vstack([np.where(absent, 0.0, flat), ~absent[partly]]).astype(np.float32)
    sums = (counted @ times).astype(np.float64)
    means = sums[: len(flat)]
    totals = sums[len(flat) :]
    means[~partly] /= data.shape[-1]
    means[partly] = np.divide(means[partly], totals, out=np.full(totals.shape, np.nan), where=totals > 0)
    shaped: FloatArray = means.reshape(*data.shape[:-1], -1)
    return shaped


def seed_weights(seeds: int, *, rng: np.random.Generator, draws: int = DRAWS) -> FloatArray:
    """Return [seeds, draws] weights of as many seeds drawn with replacement; those of a draw sum to 1."""
    return rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws).T / seeds


class Weights:
    """Weights of seeds, for many means.

    Args:
        each: [seeds, draws].
    """

    def __init__(self, each: FloatArray) -> None:
        self._each, self._total = each, each.sum(axis=-2)
        self._rows = np.ascontiguousarray(each)

    def means(self, values: FloatArray) -> FloatArray:
        """Return weighted means over seeds: [..., seeds, draws] to [..., draws]; NaN where only NaN is drawn."""
        defined = ~np.isnan(values)
        if defined.all():
            summed = values[..., 0, :] * self._rows[0]
            for seed in range(1, len(self._rows)):  # without a weighted copy of all values
                summed += values[..., seed, :] * self._rows[seed]
            return np.asarray(summed / self._total, dtype=np.float64)
        total = (defined * self._each).sum(axis=-2)
        summed = (np.where(defined, values, 0.0) * self._each).sum(axis=-2)
        means: FloatArray = np.divide(summed, total, out=np.full(summed.shape, np.nan), where=total > 0)
        return means


def mean_contrast(
    blocks: Sequence[FloatArray], *, draws: int = DRAWS, seed: int = 0, confidence: float = LEVEL
) -> Estimate:
    """Return a mean over contrasts with its interval, over trainings and test examples.

    Args:
        blocks: one for each test set: outcomes of 1, 0 and NaN, [sides, contrasts, seeds, examples]. One side: its
            level in percent; two: the first less the second, in percentage points. A seed that a contrast lacks is NaN
            throughout.
        draws: bootstrap samples.
        seed: of the bootstrap.
        confidence: of the interval.
    """
    pairs = []
    for number, block in enumerate(blocks):
        times = resampled(block.shape[-1], (seed, number), draws)
        points, drawn = 100 * _means(block), 100 * example_draws(block, times)
        pairs.append((points[0] - points[1], drawn[0] - drawn[1]) if len(block) == 2 else (points[0], drawn[0]))
    estimate = combined(pairs, rng=np.random.default_rng(seed), confidence=confidence)
    certain = estimate.low == estimate.high and estimate.value in (0.0, 100.0)  # a bootstrap sees no chance
    if certain and len(blocks[0]) == 1:
        exact = _exact(estimate.value, sum(block.shape[-1] for block in blocks), confidence)
        return replace(estimate, low=exact[0], high=exact[1])
    return estimate


def combined(
    blocks: Sequence[tuple[FloatArray, FloatArray]], *, rng: np.random.Generator, confidence: float = LEVEL
) -> Estimate:
    """Return a mean over contrasts with its interval.

    Args:
        blocks: one for each test set: values [contrasts, seeds] and the same over drawn test examples, [contrasts,
            seeds, draws]. Every contrast weighs the same; those of a block share its trainings, and a seed of two test
            sets is two trainings. NaN where a contrast lacks a seed.
        rng: source of chance, for drawn trainings.
        confidence: of the interval.
    """
    each = [(points[:, None], drawn[:, None]) for points, drawn in blocks]
    return all_combined(each, rng=rng, confidence=confidence)[0]


def all_combined(
    blocks: Sequence[tuple[FloatArray, Sequence[FloatArray] | FloatArray]],
    *,
    rng: np.random.Generator | None,
    confidence: float = LEVEL,
) -> list[Estimate]:
    """Return several means as :func:`combined` does, of the same drawn trainings, in one pass over what was drawn.

    Args:
        blocks: one for each test set: values [contrasts, means, seeds], and for each contrast the same over drawn test
            examples, [means, seeds, draws].
        rng: source of chance, for drawn trainings; without it the intervals are NaN.
        confidence: of the interval.
    """
    values = mean_values([points for points, _ in blocks])
    shape = len(values), blocks[0][1][0].shape[-1]
    noise, resampled = np.zeros(shape), np.zeros(shape)
    trainings, shares = [], []
    for points, drawn in blocks:
        each, known = _over_seeds(points), ~np.isnan(points)
        count = np.maximum(known.sum(axis=-1, keepdims=True), 1)
        trainings.append(np.nansum(points / count, axis=0))
        shares.append((known / count).sum(axis=0))
        noise += _summed(each, drawn, np.ones((points.shape[-1], 1)))
        if rng is not None:
            resampled += _summed(each, drawn, seed_weights(points.shape[-1], rng=rng, draws=shape[-1]))
    parts = np.concatenate(trainings, axis=-1), np.concatenate(shares, axis=-1), noise - noise.mean(axis=-1)[:, None]
    contrasts, estimates = sum(len(points) for points, _ in blocks), []
    for value, *rest, again in zip(values, *(part / contrasts for part in (*parts, resampled)), strict=True):
        if np.isnan(value):
            estimates.append(Estimate(np.nan, np.nan, np.nan))
            continue
        low, high = (np.nan, np.nan) if rng is None else _expanded(again, rest[0], confidence)
        estimates.append(Estimate(float(value), min(low, float(value)), max(high, float(value)), *rest))
    return estimates


def mean_values(blocks: Sequence[FloatArray]) -> FloatArray:
    """Return means over the contrasts of all blocks, each of [contrasts, means, seeds]; NaN where no seed knows one."""
    sums = [np.ascontiguousarray(_over_seeds(points).T).sum(axis=-1) for points in blocks]
    total: FloatArray = np.add.reduce(sums) / sum(map(len, blocks))
    return total


def _over_seeds(points: FloatArray) -> FloatArray:
    """Return the mean over seeds that are known; NaN where none is."""
    count = (~np.isnan(points)).sum(axis=-1)
    means: FloatArray = np.divide(np.nansum(points, axis=-1), count, out=np.full(count.shape, np.nan), where=count > 0)
    return means


def _summed(each: FloatArray, drawn: Iterable[FloatArray], weights: FloatArray) -> FloatArray:
    """Return sums over contrasts of weighted means over seeds: [means, draws]; of all seeds where none is drawn."""
    total, over_seeds = np.zeros(1), Weights(weights)
    for values, own in zip(each, drawn, strict=True):
        means = over_seeds.means(own)
        total = total + np.where(np.isnan(means), values[:, None], means)
    return total


def _exact(value: float, examples: int, confidence: float) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of 0 or 100 percent."""
    from scipy import stats

    interval = stats.binomtest(round(value / 100 * examples), examples).proportion_ci(confidence)
    return 100 * float(interval.low), 100 * float(interval.high)


def _means(block: FloatArray) -> FloatArray:
    counted = ~np.isnan(block)
    total = counted.sum(axis=-1)
    summed = np.where(counted, block, 0.0).sum(axis=-1)
    means: FloatArray = np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0)
    return means


def _expanded(drawn: FloatArray, trainings: FloatArray, confidence: float) -> tuple[float, float]:
    """Return the ends of a percentile interval, widened for few trainings."""
    from scipy import stats

    count, tail = len(trainings), (1 - confidence) / 2
    between = float(trainings.var(ddof=1)) * count if count > 1 else 0.0
    error = float(drawn.std(ddof=1))
    if between > 1e-18 and error > 0:  # Satterthwaite: only the trainings' part of the variance is poorly known
        freedom = max(error**4 * (count - 1) / between**2, count - 1.0)
        tail = float(stats.norm.cdf(np.sqrt((freedom + 1) / freedom) * stats.t.ppf(tail, freedom)))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def mean(values: Sequence[float]) -> float:
    """Return the mean of a few numbers, as numpy's but in a third of its time; NaN of none."""
    return float(np.add.reduce(values) / len(values)) if len(values) else float("nan")


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the given order."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


def ranks(scores: ArrayLike) -> FloatArray:
    """Return ranks along the first axis, 1 for the lowest; equal scores share the mean of their ranks."""
    from scipy import stats

    ranked: FloatArray = np.asarray(stats.rankdata(np.asarray(scores, dtype=np.float64), axis=0), dtype=np.float64)
    return ranked


def crossed_weights(factors: Sequence[Sequence[object]], *, rng: np.random.Generator, draws: int = DRAWS) -> FloatArray:
    """Return [columns, draws]: how often each column is drawn when the levels of every factor are drawn anew.

    Args:
        factors: for each factor, such as task and attack, its level in every column.
        rng: source of chance.
        draws: bootstrap samples.
    """
    weights = np.ones((len(factors[0]), draws))
    for factor in factors:
        levels = list(dict.fromkeys(factor))
        drawn = rng.multinomial(len(levels), np.full(len(levels), 1 / len(levels)), size=draws).T
        weights *= drawn[[levels.index(level) for level in factor]]
    return weights


def area_under_curve(bad: ArrayLike, good: ArrayLike) -> float:
    """Return the AUROC: the chance that a bad one scores above a good one, ties counting half; NaN without both."""
    high, low = np.asarray(bad, dtype=np.float64), np.asarray(good, dtype=np.float64)
    if not len(high) or not len(low):
        return float("nan")
    order = np.sort(low)
    below, up_to = np.searchsorted(order, high, "left"), np.searchsorted(order, high, "right")
    return float((below + up_to).sum() / (2 * len(high) * len(low)))


def area_interval(
    groups: Sequence[tuple[ArrayLike, ArrayLike]], *, seed: int = 0, draws: int = DRAWS, confidence: float = LEVEL
) -> Estimate | None:
    """Return the mean AUROC of groups with the percentile interval of a bootstrap inside each; None without any.

    Where every bad one scores above every good one the bootstrap sees no variation, so the ends are then those of
    Wilson's interval of as many independent pairs as there are ones in the smaller half of every group.

    Args:
        groups: scores of bad and of good ones that can be compared with each other; groups without both do not count.
        seed: of the bootstrap.
        draws: bootstrap samples.
        confidence: of the interval.
    """
    pairs = [(np.asarray(bad, dtype=np.float64), np.asarray(good, dtype=np.float64)) for bad, good in groups]
    pairs = [(bad, good) for bad, good in pairs if len(bad) and len(good)]
    if not pairs:
        return None
    value, rng = float(np.mean([area_under_curve(*pair) for pair in pairs])), np.random.default_rng(seed)
    tail = 50 * (1 - confidence)
    drawn = [
        np.mean([area_under_curve(rng.choice(bad, len(bad)), rng.choice(good, len(good))) for bad, good in pairs])
        for _ in range(draws)
    ]
    low, high = (float(end) for end in np.percentile(drawn, [tail, 100 - tail]))
    if value in (0.0, 1.0):
        from scipy import stats

        count = sum(min(len(bad), len(good)) for bad, good in pairs)
        wilson = stats.binomtest(round(value * count), count).proportion_ci(confidence, method="wilson")
        low, high = float(wilson.low), float(wilson.high)
    return Estimate(value, min(low, value), max(high, value))
