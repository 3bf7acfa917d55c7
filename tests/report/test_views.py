"""What a board of the site shows of curves."""

from __future__ import annotations

from bench.report.ranking.boards import split
from bench.report.site.views import BoardView, Budgets
from bench.suites.suite import Gate
from tests.report.synthetic import make_rows

RATIOS = [f"fine-mixing(reserve_ratio={step / 4})" for step in range(5)]


def swept(flip: float, defense: str) -> tuple[float, float]:
    """Return ACC and flip rate; the latter grows with the ratio."""
    ratio = float(defense.partition("=")[2].rstrip(")") or 0)
    return 75 + 10 * ratio, flip * ratio


def test_a_curve_of_ratios_is_of_the_budget_of_its_board() -> None:
    which = {"tasks": ("reviews",), "attacks": ("clean", "badword"), "defenses": ("none", *RATIOS), "seeds": (0,)}
    many = make_rows(**which, sizes=(64,), outcome=lambda task, attack, defense, seed: swept(80, defense))
    few = make_rows(**which, sizes=(32,), outcome=lambda task, attack, defense, seed: swept(20, defense))
    boards = {name.labels: (name, rows) for name, rows in split([*many, *few]).items() if name.holds is None}
    curves = {}
    for labels, (name, rows) in boards.items():
        alone, beside = (
            BoardView(name, rows, Gate()),
            BoardView(name, rows, Gate(), family=Budgets([*many, *few], Gate())),
        )
        curves[labels] = [point for point in beside.curves if point["kind"] == "ratio"]
        assert curves[labels] == alone.curves and len(curves[labels]) == len(RATIOS)
    assert curves[64] != curves[32]
