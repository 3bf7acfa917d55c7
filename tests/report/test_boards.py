from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.contracts import Board, Holding
from bench.report import draw, tables_of
from bench.report.ranking.boards import BoardName, by_holding, split
from bench.report.ranking.comparable import comparable_places
from bench.report.ranking.detection import ALL, build, detections
from bench.report.ranking.leaderboard import Leaderboard
from bench.report.ranking.matched import LIMITS
from bench.report.ranking.results import Competitor, Results
from bench.report.ranking.statistics import area_interval, area_under_curve, crossed_weights
from tests.report.showcase import detectors, filters, on
from tests.report.synthetic import WORLD, changed, default_outcome, edited, make_rows


def leaderboard(**options: object) -> Leaderboard:
    return Leaderboard(Results(make_rows(**options)))  # type: ignore[arg-type]


def test_a_place_with_few_defenses_ranks_nobody() -> None:
    wide = make_rows(tasks=("reviews",), attacks=("badword", "badsent"), defenses=("none", *WORLD))
    narrow = make_rows(tasks=("questions",), attacks=("badword",), defenses=("none", "fine-tuning"))
    board = Leaderboard(Results([*wide, *narrow]))
    assert len(board.implanted) == 3 and {place.task for place in board.places} == {"reviews"}
    assert "1 more is left out" in board.span()
    alone = [place for place in board.implanted if place.task == "questions"]
    (only,) = board.standings(alone)  # asked for that place alone, it counts
    assert only.complete and only.rank is not None and only.rank.value == 1.0
    complete = {standing.line.defense for standing in board.standings() if standing.complete}
    assert complete == set(WORLD)


def test_old_records_are_on_the_first_board() -> None:
    rows = make_rows()
    assert list(split(rows)) == [BoardName(Board.FINE_TUNED, 64)]
    assert split(rows)[BoardName(Board.FINE_TUNED, 64)] == rows


def test_boards_are_never_mixed() -> None:
    received = on(Board.FINE_TUNED, make_rows(defenses=("none", "mixing")))
    keys = {row.cell_key for row in received}
    parts = split([*received, *(row for row in filters() if row.cell_key not in keys)])
    assert [name.threat for name in parts] == [Board.FINE_TUNED, Board.FILTER]
    for part, other in zip(parts.values(), ("e-pur", "mixing"), strict=True):
        assert other not in {row.defense for row in part}
        assert {row.role for row in part} == {"defended", "victim", "floor"}
    titles = [table.title for table in tables_of([row for part in parts.values() for row in part])]
    assert len(titles) >= 4 and all(any(name.threat.value in title for name in parts) for title in titles)


def test_who_knows_the_target_does_not_compete_with_those_who_do_not() -> None:
    rows = on(Board.FINE_TUNED, make_rows(defenses=("none", "fine-tuning", "e-pur", "mixing")))
    rows = changed(rows, lambda r: r.defense == "e-pur", listed_on=Board.TARGET_KNOWN, needs=("clean", "target"))
    parts = {name.threat: part for name, part in split(rows).items()}
    assert set(parts) == {Board.FINE_TUNED, Board.TARGET_KNOWN}
    for board, expected in ((Board.FINE_TUNED, {"fine-tuning", "mixing"}), (Board.TARGET_KNOWN, {"e-pur"})):
        assert {row.defense for row in parts[board] if row.role == "defended"} == expected
        ranked = [one for one in Leaderboard(Results(parts[board])).standings() if one.rank is not None]
        assert {one.line.defense for one in ranked} == expected
    assert list(by_holding(parts[Board.TARGET_KNOWN])) == [Holding.LABELS]


def test_budgets_are_never_mixed() -> None:
    rows = make_rows(sizes=(64, 320), defenses=("none", "mixing", "e-pur"))
    parts = split(rows)
    assert [(name.threat, name.labels) for name in parts] == [(Board.FINE_TUNED, 64), (Board.FINE_TUNED, 320)]
    for name, part in parts.items():
        assert {row.clean_size for row in part if row.role == "defended"} == {0, name.labels}
        assert {row.defense for row in part} == {"none", "clean model", "mixing", "e-pur"}


def test_who_holds_less_is_ranked_apart() -> None:
    rows = make_rows(defenses=("none", "fine-tuning", "mixing", "e-pur"))
    rows = changed(rows, lambda r: r.defense == "fine-tuning", needs=("clean",))
    rows = changed(rows, lambda r: r.defense == "e-pur", needs=("clean", "training_set"))
    defenses = {
        holds: {row.defense for row in part if row.role == "defended"} for holds, part in by_holding(rows).items()
    }
    assert defenses == {
        Holding.LABELS: {"fine-tuning"},
        Holding.PRETRAINED: {"fine-tuning", "mixing"},
        Holding.TRAINING_SET: {"fine-tuning", "mixing", "e-pur"},
    }


def test_the_record_says_its_board_and_the_suite_knows_better() -> None:
    row = next(row for row in make_rows() if row.role == "defended")
    assert row.record is not None
    stated = edited(row, cell={**row.record.cell.document(), "board": "poisoned data received"})
    assert stated.board is Board.DATA
    assert replace(stated, listed_on=Board.FILTER).board is Board.FILTER


def test_the_clean_model_is_shown_on_every_board_of_a_defense() -> None:
    rows = changed(make_rows(), lambda r: r.role == "defended" and r.attack != "clean", listed_on=Board.PRE_TRAINED)
    assert [name.threat for name in split(rows)] == [Board.PRE_TRAINED]


def test_the_better_defense_stands_higher_and_intervals_hold_the_value() -> None:
    standings = leaderboard(tasks=("a", "b", "c"), outcome=outcome_by_name).standings()
    ranked = [standing for standing in standings if standing.rank]
    assert [standing.line.defense for standing in ranked][:2] == ["e-pur+fine-mixing", "e-pur+fine-tuning"]
    assert ranked[0].mark == "best" and ranked[-1].mark == ""
    for standing in ranked:
        assert standing.rank is not None and standing.rank.low <= standing.rank.value <= standing.rank.high
    assert sum(s.rank.value for s in ranked if s.rank) == pytest.approx(len(ranked) * (len(ranked) + 1) / 2)


def outcome_by_name(task: str, attack: str, defense: str, seed: int) -> tuple[float, float]:
    return 80.0, WORLD[defense][1]


HONEST = {"e-pur": (0.2, 5.0), "fine-mixing": (1.8, 30.0), "mixing": (4.6, 50.0), "few-shot": (9.5, 12.0)}
IDLE = {"nothing": (0.0, 99.5), "destroys": (37.4, 0.0), "one-class": (37.4, 100.0)}


def test_doing_nothing_and_destroying_the_model_rank_below_every_honest_defense() -> None:
    lines = {**HONEST, **IDLE}
    board = leaderboard(tasks=("reviews",), attacks=("badword", "badsent"), defenses=("none", *lines), examples=1000,
                        outcome=lambda t, a, d, s: (87.4 - lines[d][0], lines[d][1]))  # fmt: skip
    standings = {standing.line.defense: standing for standing in board.standings()}
    assert {standings[name].line.defense for name in HONEST} == {s.line.defense for s in board.standings()[:4]}
    for idle in IDLE:
        assert standings[idle].mark == "" and standings[idle].means["der"] <= 50.5
        for limit in LIMITS:  # no limit of accuracy lost makes them look better
            assert all(standings[idle].matched[limit] >= standings[name].matched[limit] for name in HONEST), limit


def test_the_rank_interval_holds_the_order_at_every_limit() -> None:
    lines = {"careful": (0.5, 70.0), "bold": (4.0, 5.0), "idle": (0.0, 99.0)}
    board = leaderboard(tasks=("reviews",), attacks=("badword",), defenses=("none", *lines), examples=2000,
                        outcome=lambda t, a, d, s: (87.4 - lines[d][0], lines[d][1]))  # fmt: skip
    standings = {standing.line.defense: standing for standing in board.standings()}
    careful, bold = standings["careful"], standings["bold"]
    assert bold.matched[2.0] > 95 and bold.matched[5.0] < 10, "at 2 points of accuracy it may not be used"
    assert bold.rank is not None and (bold.rank.value, bold.rank.high) == (1, 3)
    assert careful.rank is not None and careful.rank.low == 1


def test_flip_rates_at_a_limit_are_of_the_seeds_that_count() -> None:
    board = leaderboard(tasks=("reviews",), attacks=("badword",), defenses=("none", "careful"), examples=1000,
                        victim=lambda t, a, seed: (87.4, 99.5 if seed else 40.0),  # that of seed 0 misses the gate
                        outcome=lambda t, a, d, seed: (86.4, 20.0) if seed else (40.0, 90.0))  # fmt: skip
    (one,) = board.standings()
    assert one.seeds == 2 and one.matched[2.0] == pytest.approx(one.means["flip"]) and one.means["flip"] < 30


def test_an_attack_that_repeats_another_counts_once() -> None:
    rows = make_rows(tasks=("reviews",), attacks=("badword", "badsent"))
    again = [replace(r, attack="badword-again", victim_key="x" + r.victim_key, cell_key="x" + r.cell_key)
             for r in rows if r.attack == "badword"]  # fmt: skip
    board = Leaderboard(Results([*rows, *again]))
    assert [place.attack for place in board.implanted] == ["badword", "badsent"]
    assert "1 more repeat another attack" in board.span()


def test_attacks_that_did_not_implant_are_left_out() -> None:
    board = leaderboard(
        attacks=("clean", "badword", "weak"),
        victim=lambda t, a, s: (87.0 if t == "reviews" else 81.0, 40.0 if a == "weak" else 99.0),
    )
    assert {place.attack for place in board.places} == {"badword"}
    assert {standing.of for standing in board.standings()} == {2}


def test_an_oracle_is_shown_but_not_ranked_and_unfinished_lines_stand_last() -> None:
    rows = changed(make_rows(), lambda r: r.defense == "e-pur", needs=("oracle",))
    rows = changed(
        rows, lambda r: r.defense == "e-pur+fine-mixing" and r.task == "reviews" and r.seed == 0, record=None
    )
    standings = Leaderboard(Results(rows)).standings()
    oracle = next(standing for standing in standings if standing.line.defense == "e-pur")
    assert oracle.rank is None and oracle.oracle and oracle.means["asr"] < 20
    assert standings[-1].line.defense == "e-pur+fine-mixing" and not standings[-1].complete


def test_a_part_of_the_board_is_ranked_by_itself() -> None:
    board = leaderboard()
    some = [place for place in board.places if place.task == "reviews"]
    part = board.standings(some)
    assert {standing.of for standing in part} == {2}
    first = part[0]
    assert first.means["asr"] == pytest.approx(np.mean([board.means[place, first.line]["asr"] for place in some]))


def test_intervals_grow_when_tasks_disagree() -> None:
    def agree(task: str, attack: str, defense: str, seed: int) -> tuple[float, float]:
        return 80.0, 20.0 if defense == "mixing" else 60.0

    def disagree(task: str, attack: str, defense: str, seed: int) -> tuple[float, float]:
        return 80.0, 20.0 if (defense == "mixing") == (task in "abc") else 60.0

    widths = []
    for outcome in (agree, disagree):
        board = leaderboard(
            tasks=tuple("abcd"), attacks=("badword",), defenses=("none", "mixing", "e-pur"), outcome=outcome
        )
        rank = board.standings()[0].rank
        assert rank is not None
        widths.append(rank.high - rank.low)
    assert widths[0] == 0 and widths[1] > 0.4


def test_weights_are_products_of_how_often_levels_are_drawn() -> None:
    weights = crossed_weights([["a", "a", "b"], [0, 1, 0]], rng=np.random.default_rng(0), draws=4000)
    assert weights.shape == (3, 4000) and weights.mean() == pytest.approx(1, abs=0.05)
    assert np.all(weights[0] * weights.max() >= 0) and set(np.unique(weights)) <= {0, 1, 2, 4}


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_the_area_counts_pairs(bad: list[int], good: list[int]) -> None:
    pairs = [(x > y) + 0.5 * (x == y) for x in bad for y in good]
    assert area_under_curve(bad, good) == pytest.approx(np.mean(pairs))


def test_a_perfect_detector_is_not_certain() -> None:
    interval = area_interval([([3.0, 4.0, 5.0], [0.0, 1.0, 2.0])])
    assert interval is not None and interval.value == 1 and 0.3 < interval.low < 0.6 and interval.high == 1
    assert area_interval([([1.0], [])]) is None


def test_detectors_are_compared_within_a_task_and_a_good_one_leads() -> None:
    shifted = [
        edited(row, notes={"suspicion": row.notes["suspicion"] + 1000})
        if row.role == "detected" and row.task == "questions"
        else row
        for row in detectors()
    ]
    before, after = (detections(Results(rows)) for rows in (detectors(), shifted))
    assert [one.line.defense for one in before] == ["e-pur", "fine-tuning"]
    area = before[0].areas[ALL]
    assert area is not None and area.value > 0.9 and (before[0].poisoned, before[0].clean) == (24, 12)
    assert [one.areas[ALL] for one in before] == [one.areas[ALL] for one in after]


def test_more_clean_models_are_on_the_detection_board_alone() -> None:
    few = [row for row in detectors() if row.attack == "clean" or row.seed < 3]
    more = [replace(row, listed=row.role == "detected") if row.seed >= 3 else row for row in few]
    purified = make_rows(defenses=("none", "mixing"))
    boards = {name.threat: part for name, part in split([*purified, *more]).items()}
    assert [(one.poisoned, one.clean) for one in detections(Results(boards[Board.DETECTION]))] == [(12, 12)] * 2
    assert {row.seed for row in boards[Board.FINE_TUNED]} == {row.seed for row in purified}


def test_the_detection_board_is_a_table_of_its_own() -> None:
    boards = tables_of(detectors())
    assert len(boards) == 1 and "AUROC" in boards[0].title
    assert [column.leaves[0] for column in boards[0].columns][:3] == [ALL, "badword", "badsent"]
    empty = changed(detectors(), lambda r: r.role == "detected", record=None)
    assert {cell.words for line in build(Results(empty)).lines for cell in line.cells} == {"…"}


def test_every_board_gets_its_figures(tmp_path: Path) -> None:
    rows = make_rows(tasks=("reviews",), outcome=default_outcome, seeds=(0, 1))
    names = {path.name for path in draw(rows, folder=tmp_path)}
    assert {"ranks.pdf", "ranks.png", "heat.pdf", "heat.png", "tradeoff.png"} <= names


def test_a_line_without_any_place_has_no_rank() -> None:
    rows = changed(make_rows(), lambda r: r.defense == "mixing", record=None)
    standing = next(s for s in Leaderboard(Results(rows)).standings() if s.line == Competitor("mixing", 64))
    assert standing.rank is None and standing.places == () and np.isnan(standing.means["asr"])


def test_the_places_that_give_the_most_numbers_are_compared() -> None:
    board = {name: set(range(40)) for name in "abcdefgh"}
    other = {name: {*range(10), *range(100, 135)} for name in "xy"}
    assert comparable_places({**other, **board}) == list("abcdefgh"), "40 lines at 8 places, not 10 lines at 10"
    assert comparable_places({"a": {1, 2, 3}, "b": {1, 2, 3}, "c": {1, 2}}) == ["a", "b", "c"], (
        "3 x 2 numbers, as 2 x 3"
    )
    assert comparable_places({"a": {1, 2, 3}, "b": {1, 2, 3}, "c": {1, 4}}) == ["a", "b"]
    assert comparable_places({"a": set(), "b": set()}) == ["a", "b"] and comparable_places({}) == []


@given(st.lists(st.frozensets(st.integers(0, 6)), max_size=6))
def test_leaving_out_places_never_costs_numbers(sets: list[frozenset[int]]) -> None:
    lines = dict(enumerate(sets))
    kept = comparable_places(lines)

    def numbers(places: list[int]) -> int:
        return len(places) * len(frozenset.intersection(*(lines[place] for place in places))) if places else 0

    enough = [place for place, present in lines.items() if 2 * len(present) >= max(map(len, sets))]
    assert set(kept) <= set(enough) and numbers(kept) >= numbers(enough)
    assert kept == sorted(kept)
