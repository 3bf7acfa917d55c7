"""What chance makes of ratings is drawn and added up fast, and is to the last digit what the plain way makes."""

from __future__ import annotations

import gc
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable

from bench.experiment import outcomes
from bench.experiment.metrics import METRICS, UNKNOWN, compared
from bench.report.ranking import ratings
from bench.report.ranking.averages import all_means, mean_of_each
from bench.report.ranking.competition import Competitor, Setting
from bench.report.ranking.results import Results
from bench.report.ranking.statistics import all_combined, combined, example_draws, resampled
from bench.report.rows.bulk import bulk
from bench.report.tables import terminal
from bench.report.tables.layout import Cell, Column, Line, Number, Table
from tests.report.synthetic import make_rows

Array = NDArray[np.float64]
DRAWS = 50


@pytest.mark.parametrize("examples", [1, 7, 90])
def test_means_of_draws_are_those_of_the_plain_way(examples: int) -> None:
    rng = np.random.default_rng(examples)
    values = rng.choice([0.0, 1.0, np.nan], (3, 2, examples), p=[0.4, 0.4, 0.2])
    values[0, 0] = np.nan
    times = resampled(examples, (5,), DRAWS)
    ours = example_draws(values, times)
    for place in np.ndindex(3, 2):
        for draw in range(DRAWS):
            again = np.repeat(values[place], times[:, draw].astype(int))
            known = again[~np.isnan(again)]
            plain = known.sum() / len(known) if len(known) else np.nan
            assert np.array_equal(ours[place][draw], plain, equal_nan=True)


def cells_of(task: str, attack_seed: int) -> ratings.Cells:
    """Return cells of two seeds on a task: the victim's, and those of a defense."""
    rng = np.random.default_rng(attack_seed)

    def row() -> Any:
        outcomes = {"acc": (rng.random(80) < 0.9).astype(float), "flip": (rng.random(40) < 0.5).astype(float)}
        return SimpleNamespace(
            outcomes=outcomes, percentages={"majority": 50.0, **{k: 100 * v.mean() for k, v in outcomes.items()}}
        )

    return ratings.Cells(task, {0: row(), 1: row()}, {Competitor("a"): {0: row(), 1: row()}}, (0, 1))


def test_attacks_on_one_task_share_the_drawn_examples_and_tasks_do_not() -> None:
    same = [cells_of("reviews", 3), cells_of("reviews", 3), cells_of("questions", 3)]
    first, second, elsewhere = ratings.rate(same, draws=DRAWS)
    assert np.array_equal(first.drawn, second.drawn) and not np.array_equal(first.drawn, elsewhere.drawn)
    assert np.array_equal(first.points, elsewhere.points)


def rated(places: int, tasks: int, *, seeds: int = 3) -> dict[Setting, ratings.Ratings]:
    rng = np.random.default_rng(places)
    lines = tuple(Competitor(f"defense-{i}") for i in range(4))
    each = {}
    for i in range(places):
        own = tuple(range(seeds if i % 3 else seeds - 1))
        points = 100 * rng.random((len(lines), len(own)))
        drawn = (points[..., None] + rng.normal(0, 4, (*points.shape, DRAWS))).astype(np.float32)
        each[Setting("m", f"task-{i % tasks}", f"attack-{i}")] = ratings.Ratings(lines, own, points, drawn)
    return each


def plainly(each: dict[Setting, ratings.Ratings], line: int, minus: int | None) -> list[tuple[Array, Array]]:
    """Return the blocks of one estimate, filled seed by seed."""
    blocks = []
    for task in dict.fromkeys(place.task for place in each):
        group = [one for place, one in each.items() if place.task == task]
        seeds = max(len(one.seeds) for one in group)
        points, drawn = np.full((len(group), seeds), np.nan), np.full((len(group), seeds, DRAWS), np.nan)
        for row, one in enumerate(group):
            for seed in one.seeds:
                other = (0, 0) if minus is None else (one.points[minus, seed], one.drawn[minus, seed])
                points[row, seed], drawn[row, seed] = (
                    one.points[line, seed] - other[0],
                    one.drawn[line, seed] - other[1],
                )
        blocks.append((points, drawn))
    return blocks


@pytest.mark.parametrize("minus", [None, 3])
@pytest.mark.parametrize(("places", "tasks"), [(1, 1), (4, 1), (9, 2)])
def test_estimates_together_are_those_of_each_alone(places: int, tasks: int, minus: int | None) -> None:
    each = rated(places, tasks)
    lines = next(iter(each.values())).lines
    other = None if minus is None else lines[minus]
    for wanted in (lines, lines[:2]):
        together = ratings.estimates(each, each, wanted, other)
        for line, one in zip(wanted, together, strict=True):
            alone = combined(plainly(each, lines.index(line), minus), rng=np.random.default_rng(0))
            assert one == alone == ratings.estimate(each, each, line, other)
            for part in ("trainings", "shares", "noise"):
                assert np.array_equal(getattr(one, part), getattr(alone, part))
        for one, quick in zip(together, ratings.estimates(each, each, wanted, other, intervals=False), strict=True):
            assert one.value == quick.value and one.p_within(5.0) == quick.p_within(5.0) and np.isnan(quick.low)
        if other is None:
            assert ratings.means(each, each, wanted) == [one.value for one in together]


def test_a_mean_with_a_contrast_that_no_seed_knows_is_unknown_and_the_others_are_not() -> None:
    points = np.array([[[1.0, 2.0], [3.0, 4.0]], [[np.nan, np.nan], [5.0, np.nan]]])  # [contrasts, means, seeds]
    unknown, known = all_combined(
        [(points, list(np.repeat(points[..., None], 9, axis=-1)))], rng=np.random.default_rng(0)
    )
    assert np.isnan([unknown.value, unknown.low, unknown.high]).all() and known.value == 4.25


def test_means_of_each_are_those_of_the_known() -> None:
    rng = np.random.default_rng(2)
    for count in (0, 1, 5, 30):
        each = [{name: float(rng.choice([np.nan, *rng.random(3)])) for name in METRICS} for _ in range(count)]
        for name, mean in mean_of_each(each).items():
            values = [one[name] for one in each if not np.isnan(one[name])]
            assert mean == (np.mean(values) if values else pytest.approx(np.nan, nan_ok=True))


def test_means_of_many_cells_are_those_of_each_cell() -> None:
    rows = make_rows(tasks=("reviews", "questions"), seeds=range(9))
    rng = np.random.default_rng(0)
    rows = [row for row in rows if row.role != "defended" or rng.random() < 0.8]  # some seeds are missing
    results = Results(rows)
    wanted = [(place, cells) for (place, _), cells in results.items()]
    for (place, cells), together in zip(wanted, all_means(results, wanted), strict=True):
        sides = (cells, results.references(place, "victim"), results.references(place, "floor"))
        each = []
        for seed in results.used_seeds(place):
            known = [side[seed].percentages if seed in side and side[seed].done else UNKNOWN for side in sides]
            each.append(compared(known[0], victim=known[1], clean=known[2]))
        for name, mean in together.items():
            values = [one[name] for one in each if not np.isnan(one[name])]
            assert mean == (np.mean(values) if values else pytest.approx(np.nan, nan_ok=True)), name


def test_a_part_takes_the_ratings_of_the_whole() -> None:
    rows = make_rows(tasks=("reviews",), attacks=("badword",))
    whole, some = Results(rows), [row for row in rows if row.defense in ("none", "mixing", "fine-mixing")]
    part, alone = Results(some, whole=whole), Results(some)
    for place, ratings_alone in alone.ratings.items():
        assert part.ratings[place].lines == ratings_alone.lines
        assert np.array_equal(part.ratings[place].points, ratings_alone.points)
        assert np.array_equal(part.ratings[place].drawn, ratings_alone.drawn)
    fewer = Results([row for row in rows if row.seed != 0], whole=whole)  # other seeds are rated anew
    assert all(rated.seeds == (1, 2) for rated in fewer.ratings.values())


def test_bulk_looks_for_cycles_again_after_it() -> None:
    with bulk():
        assert not gc.isenabled()
        with bulk():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), bulk():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_outcomes_together_are_those_of_each() -> None:
    class One(outcomes.KeptOutcomes):
        def __init__(self, packed: bytes | None) -> None:
            self.bytes = packed

        def packed(self, name: str) -> bytes | None:
            return self.bytes

    rng = np.random.default_rng(1)
    bits = [rng.choice(kinds, 13) for kinds in ([0.0, 1.0], [0.0, 1.0, np.nan], [1.0])]
    for values in (bits, [*bits, None], [None], [*bits, rng.random(13)], [None, rng.random(13)]):
        length = next((len(one) for one in values if one is not None), 1)
        plain = np.array([np.full(length, np.nan) if one is None else one for one in values])
        kept = [One(None if one is None else outcomes.pack(one)) for one in values]
        for each in (kept, [{"acc": one} for one in values]):
            assert np.array_equal(outcomes.together(each, "acc"), plain, equal_nan=True)


def in_rich(table: Table) -> RichTable:
    """Return a table as rich lays it out."""
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, heading in enumerate(terminal._headings(table, range(len(table.columns)))):
        drawn.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for number, line in enumerate(table.lines):
        ends = terminal._ends_references(table, number)
        drawn.add_row(terminal._label(line), *map(terminal._cell, line.cells), end_section=ends)
    return drawn


@pytest.mark.parametrize("headings", [("task", "attack → 1"), ()])
@pytest.mark.parametrize("references", [0, 2, 3])
def test_a_grid_looks_as_a_table_of_rich_does(headings: tuple[str, ...], references: int) -> None:
    leaves = [("ACC", "ASR"), ("flip rate at −2",), ("ACC", "速度")]
    columns = tuple(Column(headings, some, grey=i == 1, notes=(0,) * (i == 2)) for i, some in enumerate(leaves))
    cells = (
        Cell((Number(1.5, 0.5), None), mark="best", notes=(0,)),
        Cell(words="failed"),
        Cell((Number(100.0),), grey=True),
    )
    lines = tuple(Line(f"line {'x' * i}", cells, reference=i < references) for i in range(3))
    table = Table("title", "defense", columns, lines, notes=("a note",))
    texts = []
    for part in (in_rich(table), terminal.Grid(table).drawn(range(3))):
        out = io.StringIO()
        Console(file=out, width=200, color_system=None).print(part)
        texts.append(out.getvalue())
    assert texts[0] == texts[1]
    assert max(map(cell_len, texts[1].splitlines())) == terminal.Grid(table).width(range(3))
