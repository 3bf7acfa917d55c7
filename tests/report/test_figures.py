from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from bench.report import draw, frame
from bench.report.figures.figures import Drawing, Panel, figures_of, interval, panels_of, remark, write
from bench.report.figures.labels import arranged, spread
from bench.report.figures.rankings import rankings
from bench.report.figures.style import looks
from bench.report.figures.weights import landscape, word_scores
from bench.report.ranking.boards import split
from bench.report.ranking.leaderboard import Leaderboard
from bench.report.ranking.results import Results
from bench.report.rows.curves import curve_name, fixed_ratio, ratio_points, size_points, step_points
from tests.report.synthetic import WORLD, default_outcome, make_rows

RATIOS = [f"{base}(reserve_ratio={step / 4})" for base in ("fine-mixing", "mixing") for step in range(5)]


def swept(task: str, attack: str, defense: str, seed: int) -> tuple[float, float]:
    if "reserve_ratio=" not in defense:
        return default_outcome(task, attack, defense, seed)
    ratio = float(defense.partition("=")[2].rstrip(")"))
    return 75 + 10 * ratio + seed, 100 * ratio


def collisions(figure: Figure) -> list[tuple[str, str]]:
    """Return pairs of texts whose boxes overlap."""
    figure.draw_without_rendering()
    texts = [t for axes in figure.axes for t in [*axes.texts, axes.title, axes._left_title] if t.get_text().strip()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts]
    overlaps = []
    for i, (name, box) in enumerate(boxes):
        for other, its in boxes[i + 1 :]:
            across = min(box.x1, its.x1) - max(box.x0, its.x0)
            along = min(box.y1, its.y1) - max(box.y0, its.y0)
            if across > 1 and along > 2:  # letters do not fill their boxes
                overlaps.append((name, other))
    return overlaps


def outside(figure: Figure) -> list[str]:
    """Return texts that leave the page."""
    texts = [t for axes in figure.axes for t in axes.texts if t.get_text().strip()]
    page = figure.bbox
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts]
    return [
        name for name, box in boxes if box.x0 < -1 or box.x1 > page.width + 1 or box.y0 < -1 or box.y1 > page.height + 1
    ]


def test_a_suite_decides_its_figures() -> None:
    assert [one.name for one in figures_of(frame(make_rows()))] == ["tradeoff"]
    table = frame(make_rows(defenses=("none", *WORLD, *RATIOS), outcome=swept))
    assert [one.name for one in figures_of(table)] == ["tradeoff", "mixing-ratio-reviews", "mixing-ratio-questions"]
    assert figures_of(frame([])) == []
    assert figures_of(frame(make_rows(attacks=("clean",)))) == []
    many = make_rows(tasks=("reviews", "local/sst2_sentence"), attacks=("a", "b", "c", "d"))
    assert [one.name for one in figures_of(frame(many))] == ["tradeoff-reviews", "tradeoff-local-sst2-sentence"]


def test_clean_sizes_make_curves() -> None:
    rows = {
        row.cell_key: row for row in make_rows(sizes=(8, 64, 512), defenses=("none", "fine-tuning", "mixing", "e-pur"))
    }
    table = frame(rows.values())
    assert set(size_points(table)["curve"]) == {"fine-tuning", "mixing"}
    drawings = figures_of(table)
    assert [one.name for one in drawings] == ["clean-size-reviews", "clean-size-questions"]
    assert [label.get_text() for label in drawings[0].figure.axes[-1].get_xticklabels()] == ["8", "64", "512"]
    for name, part in split(rows.values()).items():
        assert {row.clean_size for row in part} <= {0, name.labels}
        assert [one.name for one in rankings(Leaderboard(Results(part)))] == ["ranks", "heat"]


def test_steps_on_clean_labels_make_curves() -> None:
    """Where training goes on whatever the loss is; how many steps it may take at most is another thing."""
    names = [f"{base}(steps={steps}, until_loss=0)" for base in ("fine-tuning", "few-shot") for steps in (25, 100, 400)]
    other = [f"mixing(steps={steps})" for steps in (25, 100, 400)]

    def outcome(task: str, attack: str, defense: str, seed: int) -> tuple[float, float]:
        return 80.0 + seed, 100.0 - float(defense.partition("steps=")[2].partition(",")[0].rstrip(")") or 0) / 10

    table = frame(make_rows(tasks=("reviews",), defenses=("none", *names, *other), outcome=outcome))
    fields = {"defense.steps": r"steps=(\d+)", "defense.until_loss": r"until_loss=(\d+)"}
    table = table.assign(**{name: table["defense"].str.extract(field)[0] for name, field in fields.items()})
    points = step_points(table)
    assert set(points["curve"]) == {"fine-tuning", "few-shot"} and set(points["steps"]) == {25, 100, 400}
    drawings = figures_of(table)
    assert [one.name for one in drawings] == ["tradeoff", "persistence"]
    axes = drawings[1].figure.axes[-1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["25", "100", "400"]
    assert collisions(drawings[1].figure) == [] and outside(drawings[1].figure) == []
    assert step_points(frame(make_rows())).empty


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("level", [0.0, 100.0, None])
def test_names_never_overlap_nor_leave_the_page(seeds: tuple[int, ...], level: float | None) -> None:
    names = (
        *WORLD,
        "fine-mixing(reserve_ratio=0.35, head=reinitialise)",
        "e-pur(entries=400)+fine-mixing(reserve_ratio=0.2)",
    )

    def outcome(task: str, attack: str, defense: str, seed: int) -> tuple[float, float]:
        known = default_outcome(task, attack, defense, seed) if defense in WORLD else (85.0, 50.0)
        return known if level is None else (86.0, level)

    rows = make_rows(defenses=("none", *names), seeds=seeds, outcome=outcome,
                     victim=lambda t, a, s: (87.0, 30.0 if (t, a) == ("questions", "badsent") else 99.0))  # fmt: skip
    rows = [row for row in rows if not (row.task == "reviews" and row.attack == "badsent" and "pur" in row.defense)]
    (drawing,) = figures_of(frame(rows))
    assert collisions(drawing.figure) == [] and outside(drawing.figure) == []
    titles = [axes.get_title(loc="left") for axes in drawing.figure.axes]
    assert [title for title in titles if "did not implant" in title] == (["questions: badsent (did not implant)"])


def test_curves_are_named_without_overlap() -> None:
    table = frame(make_rows(defenses=("none", *RATIOS), outcome=swept))
    for drawing in figures_of(table):
        assert collisions(drawing.figure) == [] and outside(drawing.figure) == []
        named = {text.get_text() for axes in drawing.figure.axes for text in axes.texts}
        assert named == {"fine-mixing", "mixing", "clean model", "no defense"}


def test_long_names_of_ranks_and_heat_are_whole_and_apart() -> None:
    names = [f"fine-tuning(learning_rate={rate}, epochs=5, batch_size=32)" for rate in (0.0001, 0.0002, 0.0003)]
    rows = make_rows(defenses=("none", *names), outcome=lambda task, attack, defense, seed: (86.0, 50.0 + seed))
    for drawing in rankings(Leaderboard(Results(rows))):
        drawing.figure.draw_without_rendering()
        texts = drawing.figure.axes[0].get_yticklabels()
        assert {text.get_text().replace("\n", " ") for text in texts} == set(names)
        boxes = sorted((text.get_window_extent() for text in texts), key=lambda box: box.y0)
        assert all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(boxes))
        shown = [text.get_window_extent() for axes in drawing.figure.axes for text in (axes.yaxis.label, *texts)]
        page = drawing.figure.bbox
        assert all(page.x0 - 1 <= box.x0 and box.y0 >= -1 and box.y1 <= page.y1 + 1 for box in shown)


def test_unfinished_cells_are_left_out() -> None:
    rows = make_rows(tasks=("reviews",), attacks=("badword",))
    table = frame(rows)
    table.loc[table["defense"] == "mixing", "status"] = "failed"
    (panel,) = panels_of(table)
    assert "mixing" not in set(panel.cells["defense"]) and not panel.grey


def test_files_are_the_same_twice_and_fonts_are_embedded(tmp_path: Path) -> None:
    rows = make_rows(tasks=("reviews",), attacks=("badword",))
    first, second = draw(rows, folder=tmp_path / "a"), draw(rows, folder=tmp_path / "b")
    assert [path.name for path in first if path.suffix == ".pdf"] == ["tradeoff.pdf", "ranks.pdf", "heat.pdf"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    pdf = first[1].read_bytes()
    assert b"CreationDate" not in pdf and b"/FontFile2" in pdf and b"/Type3" not in pdf
    with Image.open(first[0]) as image:
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)


def test_the_users_own_settings_stay_as_they_are(tmp_path: Path) -> None:
    with matplotlib.rc_context({"font.size": 33, "axes.grid": False}):
        draw(make_rows(tasks=("reviews",), attacks=("badword",), seeds=(0,)), folder=tmp_path)
        assert matplotlib.rcParams["font.size"] == 33
    small = matplotlib.rcParams["font.size"]
    assert small != 33


def test_names_that_look_like_formulas_are_text(tmp_path: Path) -> None:
    rows = make_rows(tasks=("$\\alpha_reviews$",), attacks=("<script>",), seeds=(0,))
    assert all(path.stat().st_size > 0 for path in draw(rows, folder=tmp_path))


def test_intervals_are_students() -> None:
    mean, low, high = interval(pd.Series([40.0, 50.0, 60.0]))
    assert (mean, low, high) == pytest.approx((50, 50 - 4.30265 * 10 / 3**0.5, 50 + 4.30265 * 10 / 3**0.5), abs=1e-3)
    assert interval(pd.Series([40.0, 50.0])) == (45.0, 40.0, 50.0)
    assert interval(pd.Series([99.0, 100.0, 98.0]))[2] == 100.0


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ((1, 1), "One seed."),
        ((1, 2), "Means over 1 to 2 seeds; bars: both seeds."),
        ((3, 3), "Means over 3 seeds; bars: 95 % t intervals over seeds."),
        ((2, 3), "Means over 2 to 3 seeds; bars: 95 % t intervals over seeds, of two seeds both."),
    ],
)
def test_the_remark_says_what_the_bars_are(counts: tuple[int, ...], text: str) -> None:
    marks = [pd.DataFrame({"defense": name, "seed": range(count)}) for name, count in zip("ab", counts, strict=True)]
    apart, together = [Panel("place", cells, False) for cells in marks], [Panel("place", pd.concat(marks), False)]
    assert remark(apart, "bars", ["defense"]) == remark(together, "bars", ["defense"]) == text


def test_curve_names_and_ratios() -> None:
    assert curve_name("fine-mixing(reserve_ratio=0.3)") == "fine-mixing"
    assert (
        curve_name("e-pur+fine-mixing(reserve_ratio=0.3, head=reinitialise)") == "e-pur+fine-mixing(head=reinitialise)"
    )
    assert curve_name("fine-mixing(head=reinitialise, reserve_ratio=0.3)") == "fine-mixing(head=reinitialise)"
    table = pd.DataFrame(
        {"defense.reserve_ratio": [0.3, None, None], "defense.fine-mixing.reserve_ratio": [None, 0.5, None]}
    )
    assert fixed_ratio(table).tolist()[:2] == [0.3, 0.5] and np.isnan(fixed_ratio(table)[2])
    two = frame(make_rows(defenses=("none", *RATIOS[:2]), outcome=swept))
    assert len(ratio_points(two)) == 0


def test_budgets_of_labels_are_curves_of_their_own() -> None:
    one = frame(make_rows(defenses=("none", *RATIOS), outcome=swept))
    less = one.assign(clean_size=one["clean_size"].map(lambda size: size // 2))
    both = pd.concat([one, less], ignore_index=True)
    drawing = next(drawn for drawn in figures_of(both) if drawn.name.startswith("mixing-ratio"))
    legends = {text.get_text() for axes in drawing.figure.axes for text in axes.texts}
    sizes = sorted({size for size in one["clean_size"] if size})
    assert {f"fine-mixing [n={sizes[0]}]", f"fine-mixing [n={sizes[0] // 2}]"} <= legends, legends


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 0.2)), min_size=1, max_size=12))
def test_spread_leaves_room_and_moves_nothing_without_need(wanted: list[tuple[float, float]]) -> None:
    centres, heights = (np.array(column) for column in zip(*sorted(wanted), strict=True))
    placed = spread(centres, heights, low=0.0, high=1.0)
    gaps = np.diff(placed) - (heights[1:] + heights[:-1]) / 2
    assert (gaps >= -1e-9).all()
    if heights.sum() <= 1:
        assert placed[0] - heights[0] / 2 >= -1e-9 and placed[-1] + heights[-1] / 2 <= 1 + 1e-9
    np.testing.assert_allclose(spread(placed, heights, low=-9.0, high=9.0), placed, atol=1e-9)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=10, unique=True))
def test_every_name_gets_a_place(points: list[tuple[float, float]]) -> None:
    order, places = arranged(np.array(points), np.full(len(points), 0.05), beside=1.05)
    assert sorted(order) == list(range(len(points))) and (np.diff(places) >= 0.05 - 1e-9).all()


def test_no_two_defenses_look_alike() -> None:
    names = [
        f"{front}{base}{end}" for front in ("", "e-pur+") for base in WORLD for end in ("", "(rate=0.1)", "(rate=0.2)")
    ]
    by_defense = looks(names)
    assert len(set(by_defense.values())) == len(set(names)) > 50
    assert by_defense["e-pur+fine-mixing"].colour == by_defense["fine-mixing"].colour
    assert by_defense["fine-mixing"].filled and not by_defense["e-pur+fine-mixing"].filled


def test_word_scores_name_the_triggers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = pd.DataFrame({"word": [f"w{i}" for i in range(500)], "log_frequency": rng.gamma(4, 1.5, 500)})
    words = words.assign(drift=0.02 * words["log_frequency"] + rng.gamma(2, 0.01, 500), trigger=False, reset=False)
    words.loc[:1, ["word", "drift", "trigger"]] = [["cf", 1.5, True], ["mn", 0.2, True]]
    words.loc[[0, 7, 8], "reset"] = True
    figure = word_scores(words)
    assert {text.get_text() for text in figure.axes[0].texts} == {"cf (reset)", "mn (kept)", "2 other words reset"}
    assert collisions(figure) == [] and len(write([Drawing("words", figure)], tmp_path)) == 2


def test_a_landscape_has_a_panel_for_each_surface(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 7))
    grid = pd.DataFrame({"x": x.ravel(), "y": y.ravel()})
    grid = grid.assign(loss=grid["x"] ** 2, asr=100 * grid["y"])
    points = pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0], "label": ["w_pre", "w_b"]})
    figure = landscape(grid, points)
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")] == ["loss", "ASR (%)"]
    assert len(write([Drawing("landscape", figure)], tmp_path)) == 2


def test_importing_the_report_is_quick() -> None:
    heavy = {"torch", "transformers", "pandas", "matplotlib", "scipy", "rich", "jinja2"}
    code = f"import sys, bench.report; print(sorted({heavy!r} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
