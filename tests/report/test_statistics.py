from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.report.ranking.statistics import (
    Estimate,
    FloatArray,
    Weights,
    example_draws,
    holm,
    mean_contrast,
    ranks,
    resampled,
    seed_weights,
    sign_flip,
)


def test_drawn_examples_follow_the_exact_distribution() -> None:
    values = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    rows = list(itertools.product(range(3), repeat=3))  # every resample of three examples, equally likely
    exact = np.array([values[:, list(row)].mean(axis=1) for row in rows])
    drawn = example_draws(values, resampled(3, (0,), 60_000)).T
    for outcome in np.unique(exact, axis=0):
        expected = np.mean((exact == outcome).all(axis=1))
        assert np.mean(np.isclose(drawn, outcome).all(axis=1)) == pytest.approx(expected, abs=0.01)


def test_leading_entries_share_the_drawn_examples() -> None:
    hits = np.random.default_rng(0).random((50,)) < 0.4
    drawn = example_draws(np.stack([hits, ~hits]), resampled(50, (1,), 200))
    np.testing.assert_allclose(drawn.sum(axis=0), 1.0)


def test_an_example_that_does_not_count_is_not_in_the_mean() -> None:
    rng = np.random.default_rng(0)
    values = (rng.random(80) < 0.7).astype(float)
    some = np.where(rng.random(80) < 0.5, values, np.nan)
    drawn = example_draws(np.stack([values, some]), resampled(80, (1,), 4000))
    assert drawn[1].mean() == pytest.approx(np.nanmean(some), abs=0.01)
    assert drawn[1].std() == pytest.approx(np.nanstd(some) / np.sqrt((~np.isnan(some)).sum()), rel=0.1)
    nowhere = example_draws(np.full((2, 5), np.nan), resampled(5, (1,), 10))
    assert np.isnan(nowhere).all()


def test_weights_are_those_of_seeds_drawn_with_replacement() -> None:
    weights = seed_weights(4, rng=np.random.default_rng(0), draws=500)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)
    assert set(np.unique(weights * 4)) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert (seed_weights(1, rng=np.random.default_rng(0), draws=5) == 1).all()
    values = np.array([[1.0], [np.nan], [3.0]])
    assert Weights(np.array([[0.25], [0.5], [0.25]])).means(values) == pytest.approx([2.0])
    assert np.isnan(Weights(np.array([[0.0], [1.0], [0.0]])).means(values)).all()


def hits(share: FloatArray, rng: np.random.Generator) -> FloatArray:
    return (rng.random(share.shape) < share).astype(float)


def trainings(
    rng: np.random.Generator, *, first: float, second: float, seeds: int, spread: float, examples: int = 150
) -> FloatArray:
    """Return outcomes [2, 1, seeds, examples] of two defenses on one test set, with seeds that differ."""
    easy = rng.normal(0, 0.1, examples)
    sides = [base + rng.normal(0, spread, (seeds, 1)) + easy for base in (first, second)]
    return np.stack([hits(np.clip(side, 0, 1), rng) for side in sides])[:, None]


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.05), (5, 0.05), (10, 0.1)])
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds: int, spread: float) -> None:
    world, covered, repeats = np.random.default_rng(seeds), 0, 300
    for repeat in range(repeats):
        block = trainings(world, first=0.6, second=0.35, seeds=seeds, spread=spread)
        estimate = mean_contrast([block], draws=400, seed=repeat)
        covered += estimate.low <= 25.0 <= estimate.high
    assert covered / repeats >= 0.92  # 95 % is promised; 300 repeats know it to about 2.5 points


def test_the_interval_of_a_rate_with_two_kinds_of_trainings_stays_inside_and_covers() -> None:
    world, covered, repeats, truth = np.random.default_rng(0), 0, 300, 50.0
    for repeat in range(repeats):  # half of the trainings lose the backdoor, the others keep it whole
        share = np.where(world.random((10, 1)) < 0.5, 0.02, 0.98)
        estimate = mean_contrast([hits(np.broadcast_to(share, (10, 200)), world)[None, None]], draws=400, seed=repeat)
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 100
        covered += estimate.low <= truth <= estimate.high
    assert covered / repeats >= 0.91


def test_one_training_speaks_of_examples_only_and_decides_nothing() -> None:
    block = (np.arange(100) < 60).astype(float)[None, None, None]
    estimate = mean_contrast([block], draws=5000)
    assert estimate.seeds == 1 and estimate.value == 60.0
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * 100 * (0.6 * 0.4 / 100) ** 0.5, rel=0.08)
    assert estimate.p_above(0) == 0.5


def test_what_a_bootstrap_cannot_see_is_not_taken_for_certain() -> None:
    estimate = mean_contrast([np.zeros((1, 1, 3, 200))])
    assert estimate.value == estimate.low == 0.0 and 1.0 < estimate.high < 2.0


def test_contrasts_on_several_test_sets_weigh_the_same() -> None:
    small, large = np.full((1, 2, 3, 10), 0.05), np.full((1, 1, 3, 400), 0.2)
    assert mean_contrast([small, large]).value == pytest.approx(10.0)


def test_a_contrast_that_lacks_a_seed_is_the_mean_of_the_others() -> None:
    block = np.stack([np.full((3, 20), 0.2), np.full((3, 20), 0.6)])[None]
    block[0, 1, 2] = np.nan
    assert mean_contrast([block]).value == pytest.approx(40.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    block = trainings(np.random.default_rng(0), first=0.6, second=0.4, seeds=3, spread=0.1)
    assert mean_contrast([block], seed=4) == mean_contrast([block], seed=4)
    assert mean_contrast([block], seed=4) != mean_contrast([block], seed=5)


def test_flipped_signs_of_few_trainings_are_counted_out() -> None:
    still = np.zeros(1)
    assert sign_flip(np.array([1.0, 1.0, 1.0]), still) == 1 / 8
    assert sign_flip(np.array([1.0, 1.0, -0.5]), still) == 2 / 8
    assert sign_flip(np.ones(10), still) == 1 / 1024
    assert sign_flip(-np.ones(3), still) == 1.0
    assert sign_flip(np.ones(10), np.random.default_rng(0).normal(0, 20, 2000)) > 0.2  # noise of the examples


@pytest.mark.parametrize(("seeds", "spread"), [(5, 0.0), (6, 0.1), (10, 0.2)])
def test_a_test_errs_no_more_often_than_it_says(seeds: int, spread: float) -> None:
    world, wrong, repeats = np.random.default_rng(seeds), 0, 400
    for repeat in range(repeats):
        block = trainings(world, first=0.5, second=0.4, seeds=seeds, spread=spread)
        estimate = mean_contrast([block], draws=200, seed=repeat)
        wrong += estimate.p_above(10.0) <= 0.05
    assert wrong / repeats <= 0.075  # 5 % is promised; 400 repeats know it to about 2.2 points


def test_equivalence_is_not_the_absence_of_a_difference() -> None:
    world = np.random.default_rng(0)
    few = mean_contrast([trainings(world, first=0.5, second=0.5, seeds=3, spread=0.05)])
    many = mean_contrast([trainings(world, first=0.5, second=0.5, seeds=10, spread=0.01, examples=3000)])
    assert few.p_above(0) > 0.05 and few.p_below(0) > 0.05 and few.p_within(5) > 0.05
    assert many.p_within(5) < 0.05


def test_trainings_needed_follow_spread_and_distance() -> None:
    units = np.array([8.0, 12.0, 10.0, 9.0, 11.0])
    estimate = Estimate(10.0, 8, 12, units / 5, np.full(5, 0.2))
    assert estimate.trainings_needed(0, alpha=0.025) == 6  # fewer cannot reach that level
    far, near = (estimate.trainings_needed(bound, alpha=0.025) for bound in (9.0, 9.5))
    assert 15 < far < near
    sure = Estimate(10.0, 10, 10, np.full(5, 2.0), np.full(5, 0.2))
    assert sure.trainings_needed(9.0, alpha=0.001) == 10


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_step_down(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    order, running = sorted(range(len(p_values)), key=lambda i: p_values[i]), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, p_values[i] * (len(p_values) - rank)))
        assert adjusted[i] == pytest.approx(running)


def test_holm_of_a_known_case() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_ranks_add_up(scores: list[int]) -> None:
    ranked = ranks(scores)
    assert ranked.sum() == pytest.approx(len(scores) * (len(scores) + 1) / 2)
    assert all(
        (ranked[i] < ranked[j]) == (scores[i] < scores[j]) for i in range(len(scores)) for j in range(len(scores))
    )
