"""The simulation of selection rules, on sweeps whose truth is known, and its committed table."""

from __future__ import annotations

import numpy as np
import pytest

from tests import selection_rules
from tests.selection_rules import IN_FORCE, RULES, Sweep

PLAIN = "isotonic, against the victim"
RATIOS = tuple(step / 10 for step in range(11))


def sweep(drops: np.ndarray, *, n: int = 6000, half_drop: float = 0.0, seed: int = 0) -> Sweep:
    """Return a victim that is right on 90 % and candidates that lose the given points, more if built on half."""
    rng = np.random.default_rng(seed)

    def right(share: float) -> np.ndarray:
        return (rng.random(n) < share).astype(np.float64)

    return Sweep(
        "known",
        RATIOS,
        right(0.9),
        np.stack([right(0.9 - (drop + half_drop) / 100) for drop in drops]),
        np.stack([right(0.9 - drop / 100) for drop in drops]),
        np.linspace(0, 100, len(drops)),
        50.0,
    )


def drawn(rule: str, known: Sweep, size: int = 64) -> selection_rules.Drawn:
    return selection_rules.simulate(known, RULES[rule], size=size, rng=np.random.default_rng(1), draws=300)


def test_the_first_ratio_that_passes_is_a_lucky_one() -> None:
    known = sweep(np.full(11, 8.0))
    lucky, steady = drawn("smallest measured loss within the limit, against the victim", known), drawn(PLAIN, known)
    assert (lucky.true - lucky.seen).mean() > (steady.true - steady.seen).mean() + 0.5
    assert lucky.seen.mean() < 5.5 < lucky.true.mean(), "it says that it keeps within the limit, and does not"


def test_with_many_labels_every_rule_finds_the_ratio_that_just_passes() -> None:
    known = sweep(np.linspace(25, 0, 11))
    for rule in RULES.keys() - {"always 0.5"}:
        assert drawn(rule, known, size=5000).ratio.mean() == pytest.approx(0.8, abs=0.11), rule


@pytest.mark.parametrize("errors", ["half a standard error", "a standard error"])
def test_standard_errors_buy_accuracy_with_ratio(errors: str) -> None:
    known = sweep(np.linspace(25, 0, 11))
    plain, careful = drawn(PLAIN, known), drawn(f"isotonic, {errors}, against the victim", known)
    assert careful.ratio.mean() > plain.ratio.mean()
    assert careful.lost.mean() < plain.lost.mean()
    assert careful.flip.mean() > plain.flip.mean()


def test_what_half_of_the_labels_cost_changes_the_rule_against_the_victim_only() -> None:
    drops = np.linspace(25, 0, 11)
    same, worse = sweep(drops), sweep(drops, half_drop=3)
    assert drawn(PLAIN, worse).ratio.mean() > drawn(PLAIN, same).ratio.mean() + 0.05
    assert drawn(IN_FORCE, worse).ratio.mean() == pytest.approx(drawn(IN_FORCE, same).ratio.mean(), abs=0.05)


def test_the_committed_table_is_that_of_its_records() -> None:
    committed = (selection_rules.SWEEPS / "SELECTION.md").read_text(encoding="utf-8")
    assert committed == selection_rules.document()
