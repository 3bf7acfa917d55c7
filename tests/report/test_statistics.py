from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.report.ranking.statistics import (
    Estimate,
    difference,
    example_draws,
    holm,
    level,
    mean_rank,
    not_worse_than_best,
    paired_bootstrap,
    seed_weights,
    with_seeds,
)


def test_drawn_examples_follow_the_exact_distribution() -> None:
    values = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    rows = list(itertools.product(range(3), repeat=3))  # every resample of three examples, equally likely
    exact = np.array([values[:, list(row)].mean(axis=1) for row in rows])
    drawn = example_draws(values, rng=np.random.default_rng(0), draws=60_000).T
    for outcome in np.unique(exact, axis=0):
        expected = np.mean((exact == outcome).all(axis=1))
        assert np.mean(np.isclose(drawn, outcome).all(axis=1)) == pytest.approx(expected, abs=0.01)


def test_leading_entries_share_the_drawn_examples() -> None:
    hits = np.random.default_rng(0).random((50,)) < 0.4
    drawn = example_draws(np.stack([hits, ~hits]), rng=np.random.default_rng(1), draws=200)
    np.testing.assert_allclose(drawn.sum(axis=0), 1.0)


def test_seed_weights_draw_one_fewer_and_a_single_seed_as_it_is() -> None:
    weights = seed_weights(4, rng=np.random.default_rng(0), draws=500)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)
    assert set(np.unique(weights * 3)) <= {0.0, 1.0, 2.0, 3.0}
    assert (seed_weights(1, rng=np.random.default_rng(0), draws=5) == 1).all()


def test_the_variance_is_the_analysis_of_variance_of_seeds_and_examples() -> None:
    rng = np.random.default_rng(3)
    seeds, n = 5, 300
    values = 5 * rng.normal(size=(seeds, 1)) + 20 * rng.normal(size=(1, n)) + 40 * rng.normal(size=(seeds, n))
    residual = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    noise = (residual**2).sum() / ((seeds - 1) * (n - 1)) / (seeds * n)
    between, within = values.mean(axis=1).var(ddof=1) / seeds, values.mean(axis=0).var(ddof=1) / n
    exact = within + max(between - noise, 0)
    assert paired_bootstrap([values], draws=20_000).error == pytest.approx(exact**0.5, rel=0.03)


def test_without_seed_effects_only_the_drawn_examples_remain() -> None:
    drawn = np.random.default_rng(0).normal(size=(3, 100))
    weights = seed_weights(3, rng=np.random.default_rng(1), draws=100)
    np.testing.assert_allclose(with_seeds(np.full(3, 7.0), drawn, weights), drawn.mean(axis=0))


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.05), (5, 0.05), (10, 0.1)])
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds: int, spread: float) -> None:
    world = np.random.default_rng(seeds)
    covered, n, repeats = 0, 150, 300
    for repeat in range(repeats):
        easy = world.normal(0, 0.1, n)
        first, second = (
            {seed: 1.0 * (world.random(n) < base + easy + world.normal(0, spread)) for seed in range(seeds)}
            for base in (0.6, 0.35)
        )
        found = paired_bootstrap([difference(first, second)], draws=300, seed=repeat)
        covered += found.low <= 25.0 <= found.high
    assert 0.91 <= covered / repeats <= 0.99  # 95 % is promised; 300 repeats know it to about 2.5 points


def test_one_seed_speaks_of_examples_only_and_says_so() -> None:
    hits = {0: np.arange(100) < 60}
    found = paired_bootstrap([level(hits)], draws=5000)
    assert found.seeds == 1 and found.value == 60.0
    assert found.error == pytest.approx(100 * (0.6 * 0.4 / 100) ** 0.5, rel=0.05)


def test_certainty_has_no_width() -> None:
    always, never = {s: np.ones(10) for s in range(3)}, {s: np.zeros(10) for s in range(3)}
    found = paired_bootstrap([difference(always, never)])
    assert (found.value, found.low, found.high) == (100.0, 100.0, 100.0)
    assert found.p_above(0) == 0.0 and found.p_below(0) == 1.0
    same = paired_bootstrap([difference(always, always)])
    assert same.p_above(0) == 1.0 and same.p_below(0) == 1.0


def test_contrasts_on_several_test_sets_weigh_the_same() -> None:
    small, large = np.full((2, 3, 10), 5.0), np.full((3, 400), 20.0)
    assert paired_bootstrap([small, large]).value == pytest.approx(10.0)
    with pytest.raises(ValueError, match="same seeds"):
        paired_bootstrap([small, large[:2]])


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=(3, 80))
    assert paired_bootstrap([values], seed=4) == paired_bootstrap([values], seed=4)
    assert paired_bootstrap([values], seed=4) != paired_bootstrap([values], seed=5)


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


def test_marks_keep_ties_and_drop_the_clearly_worse() -> None:
    rng = np.random.default_rng(0)
    base = {s: 1.0 * (rng.random(500) < 0.1) for s in range(3)}
    near = {s: abs(base[s] - (rng.random(500) < 0.01)) for s in range(3)}
    far = {s: 1.0 * (rng.random(500) < 0.6) for s in range(3)}
    best, close = not_worse_than_best([far, base, near])
    assert best == int(np.argmin([np.mean(level(run)) for run in (far, base, near)]))
    assert close == [False, True, True]


def test_a_difference_needs_a_common_seed() -> None:
    with pytest.raises(ValueError, match="no seed in common"):
        difference({0: np.ones(2)}, {1: np.ones(2)})


@settings(max_examples=30)
@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 1000))
def test_mean_ranks_add_up(competitors: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = [rng.integers(0, 4, competitors).astype(float) for _ in range(columns)]
    sampled = [score[:, None] + rng.normal(size=(competitors, 50)) for score in scores]
    found = mean_rank(scores, sampled, seeds=3)
    known = [one for one in found if isinstance(one, Estimate)]
    assert sum(one.value for one in known) == pytest.approx(competitors * (competitors + 1) / 2)
    assert all(one.low <= one.value <= one.high for one in known)


def test_who_is_absent_gets_no_rank() -> None:
    scores = [np.array([3.0, np.nan, 1.0]), np.array([np.nan, np.nan, 1.0])]
    sampled = [np.repeat(score[:, None], 10, axis=1) for score in scores]
    found = mean_rank(scores, sampled, seeds=3)
    assert found[1] is None
    assert found[0] is not None and found[0].value == 2.0
    assert found[2] is not None and found[2].value == 1.0
