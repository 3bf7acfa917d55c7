"""The statistics behind every mark, rank and verdict: pure functions of per-example outcomes.

Two sources of chance are resampled together: seeds, and test examples. Every seed is judged on the same test set, so an
example is drawn for all seeds and for both defenses at once; drawing anew for each seed would pretend that there are as
many independent examples as seeds times the test set, and intervals would come out too short. Two corrections keep
the variance unbiased with few seeds: S - 1 of S seeds are drawn (the plain bootstrap loses a third of the variance with
three), and seed effects are shrunk by what the noise of the examples adds to them, which the drawn examples already
bring. The interval is Student's, with the degrees of freedom that the seeds' share of the variance leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Runs = Mapping[int, FloatArray]  # seed -> 1 or 0 for each of the same examples
DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty.

    Attributes:
        value: in the unit of the data; percentage points for outcomes.
        low, high: ends of the interval.
        error: standard error.
        freedom: degrees of freedom of Student's t.
        seeds: how many seeds are behind it; with one seed the interval speaks of test examples only.
    """

    value: float
    low: float
    high: float
    error: float
    freedom: float
    seeds: int

    def p_above(self, bound: float) -> float:
        """Return the one-sided p-value of "the truth is at most ``bound``": small where it lies above."""
        return _tail(self.value - bound, self.error, self.freedom)

    def p_below(self, bound: float) -> float:
        """Return the one-sided p-value of "the truth is at least ``bound``": small where it lies below."""
        return _tail(bound - self.value, self.error, self.freedom)


def _tail(excess: float, error: float, freedom: float) -> float:
    """Return P(T >= excess / error); a point without error is certain."""
    if error <= 1e-12:
        return 0.0 if excess > 0 else 1.0
    from scipy import stats

    return float(stats.t.sf(excess / error, freedom))


def difference(first: Runs, second: Runs) -> FloatArray:
    """Return first minus second in percentage points for the seeds that both have: [seeds, examples]."""
    common = sorted(set(first) & set(second))
    if not common:
        raise ValueError("the two have no seed in common")
    return np.stack([100.0 * (first[seed] - second[seed]) for seed in common])


def level(runs: Runs) -> FloatArray:
    """Return outcomes in percent: [seeds, examples]."""
    return np.stack([100.0 * runs[seed] for seed in sorted(runs)])


def example_draws(values: ArrayLike, *, rng: np.random.Generator, draws: int = DRAWS) -> FloatArray:
    """Return means over resampled examples: [..., examples] to [..., draws]; all leading entries share each draw.

    Examples with the same outcome everywhere are interchangeable, so only how often each pattern of outcomes is drawn
    matters. That is exact, and makes large test sets cheap.
    """
    data = np.asarray(values, dtype=np.float64)
    flat = data.reshape(-1, data.shape[-1])
    if flat.shape[1] == 0:
        raise ValueError("no examples to draw from")
    patterns, counts = np.unique(flat, axis=1, return_counts=True)
    n = int(counts.sum())
    drawn = rng.multinomial(n, counts / n, size=draws)
    return (patterns @ drawn.T / n).reshape(*data.shape[:-1], draws)


def seed_weights(seeds: int, *, rng: np.random.Generator, draws: int = DRAWS) -> FloatArray:
    """Return [seeds, draws] weights of S - 1 seeds drawn from S; a single seed is taken as it is."""
    if seeds == 1:
        return np.ones((1, draws))
    return rng.multinomial(seeds - 1, np.full(seeds, 1 / seeds), size=draws).T / (seeds - 1)


def with_seeds(means: FloatArray, drawn: FloatArray, weights: FloatArray) -> FloatArray:
    """Return draws over seeds and examples.

    Args:
        means: [..., seeds]: the mean of each seed.
        drawn: [..., seeds, draws]: the same over resampled examples.
        weights: [seeds, draws] from :func:`seed_weights`.

    Returns:
        [..., draws] draws of the mean over seeds.
    """
    seeds = means.shape[-1]
    centre: FloatArray = drawn.mean(axis=-2)
    if seeds == 1:
        return centre
    noise = (drawn - centre[..., None, :]).var(axis=-1).sum(axis=-1) / (seeds - 1)
    between = means.var(axis=-1, ddof=1)
    share = np.divide(noise, between, out=np.ones_like(noise), where=between > 1e-12)
    effects = np.sqrt(np.clip(1 - share, 0, 1))[..., None] * (means - means.mean(axis=-1, keepdims=True))
    result: FloatArray = centre + effects @ weights
    return result


def paired_bootstrap(
    differences: Sequence[FloatArray], *, draws: int = DRAWS, seed: int = 0, confidence: float = LEVEL
) -> Estimate:
    """Return the mean difference with its interval, over seeds and test examples.

    Args:
        differences: one array for each test set, [seeds, examples] or [contrasts, seeds, examples]; the same seeds in
            each. Every contrast weighs the same; contrasts on one test set share the drawn examples, and all test sets
            share the drawn seeds.
        draws: bootstrap samples.
        seed: of the bootstrap.
        confidence: of the interval.
    """
    rng = np.random.default_rng(seed)
    blocks = [array[None] if array.ndim == 2 else array for array in differences]
    seeds = blocks[0].shape[1]
    if any(block.shape[1] != seeds for block in blocks):
        raise ValueError("every test set needs the same seeds")
    contrasts = sum(len(block) for block in blocks)
    means = np.sum([block.mean(axis=2).sum(axis=0) for block in blocks], axis=0) / contrasts
    drawn = np.sum([example_draws(block, rng=rng, draws=draws).sum(axis=0) for block in blocks], axis=0) / contrasts
    sampled = with_seeds(means, drawn, seed_weights(seeds, rng=rng, draws=draws))
    between = float(means.var(ddof=1)) / seeds if seeds > 1 else 0.0
    return _student(float(means.mean()), float(sampled.std(ddof=1)), between, seeds, confidence)


def _student(value: float, error: float, between: float, seeds: int, confidence: float) -> Estimate:
    """Return an interval whose degrees of freedom are Satterthwaite's: only the seeds' part is poorly known."""
    from scipy import stats

    freedom = np.inf
    if between > 1e-18:
        freedom = max(error**4 * (seeds - 1) / between**2, seeds - 1.0)
    half = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * error if error > 0 else 0.0
    return Estimate(value, value - half, value + half, error, float(freedom), seeds)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the given order."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


def not_worse_than_best(runs: Sequence[Runs], *, alpha: float = 0.05, seed: int = 0) -> tuple[int, list[bool]]:
    """Return which has the fewest hits, and for each whether it does not have significantly more.

    Each of the others is compared with the best by the paired bootstrap, one-sided; p-values are Holm's.
    """
    means = [float(np.mean(level(run))) for run in runs]
    best = int(np.argmin(means))
    others = [i for i in range(len(runs)) if i != best]
    p = [paired_bootstrap([difference(runs[i], runs[best])], seed=seed).p_above(0.0) for i in others]
    kept = {i for i, adjusted in zip(others, holm(p), strict=True) if adjusted >= alpha} | {best}
    return best, [i in kept for i in range(len(runs))]


def ranks(scores: ArrayLike) -> FloatArray:
    """Return ranks along the first axis, 1 for the lowest; equal scores share the mean of their ranks."""
    from scipy import stats

    found: FloatArray = np.asarray(stats.rankdata(np.asarray(scores, dtype=np.float64), axis=0), dtype=np.float64)
    return found


def mean_rank(
    scores: Sequence[FloatArray],
    sampled: Sequence[FloatArray],
    *,
    seeds: int,
    weights: ArrayLike | None = None,
    confidence: float = LEVEL,
) -> list[Estimate | None]:
    """Return the mean rank of each competitor over columns, with the percentile interval of the bootstrap.

    Args:
        scores: for each column [competitors]: lower is better, NaN where a competitor is not in that column.
        sampled: for each column [competitors, draws], from one joint bootstrap.
        seeds: how many seeds are behind the scores.
        weights: [columns, draws]: how often each column is drawn; once by default.
        confidence: of the interval.
    """
    points = np.stack([ranks_of_present(column[:, None])[:, 0] for column in scores])
    draws = mean_rank_draws([ranks_of_present(column) for column in sampled], weights)
    return [rank_estimate(points[:, i], draws[i], seeds=seeds, confidence=confidence) for i in range(len(draws))]


def mean_rank_draws(sampled: Sequence[NDArray[np.floating[Any]]], weights: ArrayLike | None = None) -> FloatArray:
    """Return [competitors, draws] mean ranks over the columns in which a competitor is.

    Args:
        sampled: ranks for each column, [competitors, draws], NaN where a competitor is absent.
        weights: [columns, draws]; NaN comes out where a draw has no column with the competitor.
    """
    shape = sampled[0].shape
    each = np.ones((len(sampled), shape[1])) if weights is None else np.asarray(weights, dtype=np.float64)
    total, weight = np.zeros(shape), np.zeros(shape)
    for column, drawn in zip(sampled, each, strict=True):
        there = ~np.isnan(column)
        total += np.where(there, column, 0.0) * drawn
        weight += there * drawn
    found: FloatArray = np.divide(total, weight, out=np.full(shape, np.nan), where=weight > 0)
    return found


def rank_estimate(points: FloatArray, drawn: FloatArray, *, seeds: int, confidence: float = LEVEL) -> Estimate | None:
    """Return the mean of ranks with the percentile interval of its draws; None for a competitor without ranks."""
    there, known = points[~np.isnan(points)], drawn[~np.isnan(drawn)]
    if not len(there) or len(known) < 2:
        return None
    value, tail = float(there.mean()), 50 * (1 - confidence)
    low, high = (float(end) for end in np.percentile(known, [tail, 100 - tail]))
    return Estimate(value, min(low, value), max(high, value), float(known.std(ddof=1)), np.inf, seeds)


def ranks_of_present(column: FloatArray) -> FloatArray:
    """Return ranks along the first axis among the competitors without NaN; the others keep NaN."""
    there = ~np.isnan(column).any(axis=1)
    found = np.full(column.shape, np.nan)
    if there.any():
        found[there] = ranks(column[there])
    return found


def crossed_weights(factors: Sequence[Sequence[object]], *, rng: np.random.Generator, draws: int = DRAWS) -> FloatArray:
    """Return [columns, draws]: how often each column is drawn when the levels of every factor are drawn anew.

    Args:
        factors: for each factor, such as task and attack, its level in every column.
        rng: source of chance.
        draws: bootstrap samples.
    """
    found = np.ones((len(factors[0]), draws))
    for factor in factors:
        levels = list(dict.fromkeys(factor))
        drawn = rng.multinomial(len(levels), np.full(len(levels), 1 / len(levels)), size=draws).T
        found *= drawn[[levels.index(level) for level in factor]]
    return found


def critical_difference(competitors: int, columns: int, *, confidence: float = LEVEL) -> float:
    """Return Nemenyi's critical difference: mean ranks that lie further apart differ (Demšar, JMLR 2006).

    Args:
        competitors: how many are ranked in every column; at least 2.
        columns: how many columns there are.
        confidence: family-wise, over all pairs.
    """
    from scipy import stats

    quantile = float(stats.studentized_range.ppf(confidence, competitors, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(competitors * (competitors + 1) / (6 * columns)))


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
    return Estimate(value, min(low, value), max(high, value), float(np.std(drawn, ddof=1)), np.inf, 1)
