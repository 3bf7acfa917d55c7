from __future__ import annotations

from dataclasses import replace

import pytest

from bench.report.ranking.results import Competitor, Results, Setting
from bench.report.rows import trainings
from bench.report.rows.row import Row
from bench.report.tables import cells as tables
from bench.suites.suite import Gate
from tests.report.synthetic import WORLD, changed, edited, make_rows

PLACE = Setting("embedded", "reviews", "badword", 1)


def results(**options: object) -> Results:
    options = {"tasks": ("reviews",), "attacks": ("badword",), **options}
    return Results(make_rows(**options))  # type: ignore[arg-type]


def test_places_and_lines_keep_the_order_of_the_suite() -> None:
    suite_results = Results(make_rows())
    assert [(place.task, place.attack) for place in suite_results.places] == [
        (task, attack) for task in ("reviews", "questions") for attack in ("clean", "badword", "badsent")
    ]
    assert [line.defense for line in suite_results.lines] == list(WORLD)


def test_best_is_the_highest_rating_and_as_good_has_to_be_shown() -> None:
    asr = {"fine-tuning": 99.0, "fine-mixing": 10.0, "e-pur": 10.5, "mixing": 60.0}

    def marks(seeds: int) -> dict[str, str]:
        suite_results = results(defenses=("none", *asr), outcome=lambda t, a, d, s: (86.0, asr[d]), seeds=range(seeds),
                        examples=1500)  # fmt: skip
        return {line.defense: mark for line, mark in suite_results.marks(PLACE).items()}

    few, many = marks(3), marks(8)
    assert list(few.values()) == ["best"], "three trainings cannot show that two are equal at 5 %"
    assert sorted(many.values()) == ["best", "equal"] and set(many) == {"fine-mixing", "e-pur"}


def test_a_defense_that_ruins_the_model_is_not_best() -> None:
    suite_results = results(defenses=("none", "fine-tuning", "mixing"),
                    outcome=lambda t, a, d, s: (50.0, 0.0) if d == "mixing" else (87.0, 60.0))  # fmt: skip
    assert {line.defense: mark for line, mark in suite_results.marks(PLACE).items()} == {"fine-tuning": "best"}
    hardly = results(defenses=("none", "fine-tuning"), outcome=lambda t, a, d, s: (87.0, 99.0))
    assert hardly.marks(PLACE) == {}


def test_an_oracle_is_shown_but_does_not_compete() -> None:
    rows = changed(
        make_rows(tasks=("reviews",), attacks=("badword",)), lambda row: row.defense == "e-pur", needs=("oracle",)
    )
    suite_results = Results(rows)
    assert Competitor("e-pur", 0) in suite_results.complete(PLACE) and Competitor(
        "e-pur", 0
    ) not in suite_results.ranked(PLACE)
    assert all(line.defense != "e-pur" for line in suite_results.marks(PLACE))
    assert Competitor("e-pur", 0) not in suite_results.ratings[PLACE].lines


def test_nobody_wins_where_nothing_was_implanted() -> None:
    suite_results = results(victim=lambda task, attack, seed: (87.4, 70.0))
    assert suite_results.state(PLACE) == "not implanted"
    assert suite_results.marks(PLACE) == {} and suite_results.ratings == {}
    assert suite_results.used_seeds(PLACE) == [0, 1, 2]
    assert Results(suite_results.rows, gate=Gate(min_asr=60)).state(PLACE) == "implanted"


def test_seeds_whose_victim_did_not_implant_do_not_count() -> None:
    suite_results = results(victim=lambda task, attack, seed: (87.4, 70.0 if seed == 1 else 99.0))
    assert suite_results.state(PLACE) == "implanted" and suite_results.used_seeds(PLACE) == [0, 2]


def test_a_victim_that_is_not_there_yet_leaves_the_state_open() -> None:
    rows = changed(make_rows(tasks=("reviews",), attacks=("badword",)), lambda row: row.role == "victim", record=None)
    suite_results = Results(rows)
    assert (
        suite_results.state(PLACE) == "unknown"
        and suite_results.complete(PLACE) == []
        and suite_results.marks(PLACE) == {}
    )


def test_unfinished_defenses_are_not_compared() -> None:
    rows = changed(make_rows(tasks=("reviews",), attacks=("badword",)),
                   lambda row: row.defense == "e-pur+fine-mixing" and row.seed == 2, record=None)  # fmt: skip
    suite_results = Results(rows)
    assert all(
        line.defense != "e-pur+fine-mixing" for line in (*suite_results.complete(PLACE), *suite_results.marks(PLACE))
    )


def test_of_a_ratio_curve_the_best_point_on_test_is_a_line_and_an_oracle() -> None:
    fixed = {f"fine-mixing(reserve_ratio={ratio})": asr for ratio, asr in ((0.1, 5.0), (0.5, 30.0), (0.9, 99.0))}

    def outcome(task: str, attack: str, defense: str, seed: int) -> tuple[float, float]:
        return (60.0 if "0.1" in defense else 86.0, fixed.get(defense, 50.0))

    suite_results = results(defenses=("none", "fine-mixing", *fixed), outcome=outcome)
    best = Competitor("fine-mixing (ratio best on test)", 64)
    assert suite_results.swept == 9
    assert [line for line in suite_results.lines if line.defense != "fine-mixing"] == [best]
    assert all(row.metric("asr") == pytest.approx(30.0, abs=1) for row in suite_results.cells(PLACE, best).values())
    assert best.defense in suite_results.oracles
    assert best not in suite_results.marks(PLACE)
    first = next(iter(fixed))
    single = results(defenses=("none", "fine-mixing", first), outcome=lambda t, a, d, s: (86.0, 50.0))
    assert [line.defense for line in single.lines] == ["fine-mixing", first]


def trained(row: Row, seconds: float, **fields: str) -> Row:
    assert row.record is not None
    return edited(row, seconds={**row.record.seconds, "victim": seconds}, **fields)


def test_cells_of_another_training_of_the_victim_are_told_apart() -> None:
    rows = make_rows(tasks=("reviews",), attacks=("badword",), defenses=("none", "mixing", "e-pur"), seeds=(0,))
    victim, floor, mixing, e_pur = rows
    assert trainings.cells_of_other_trainings(rows) == frozenset()
    again = [victim, floor, trained(mixing, 7.0), e_pur]
    assert trainings.cells_of_other_trainings(again) == {mixing.cell_key}
    tied = [victim, trained(mixing, 7.0)]
    assert (
        trainings.cells_of_other_trainings(tied) == trainings.cells_of_other_trainings(tied[::-1]) == {mixing.cell_key}
    ), "the victim's own counts"
    same = [trained(victim, 7.0, victim_weights="aa"), trained(mixing, 8.0, victim_weights="aa")]
    assert trainings.cells_of_other_trainings(same) == frozenset(), "trained again to the same weights"
    older = [trained(victim, 7.0, victim_weights="aa"), trained(floor, 7.0), trained(mixing, 8.0, victim_weights="bb")]
    assert trainings.cells_of_other_trainings(older) == {mixing.cell_key}, (
        "a record without weights is of the training that took as long"
    )
    assert trainings.cells_of_other_trainings([replace(row, record=None) for row in rows]) == frozenset()


def test_a_cell_of_another_training_is_no_cell() -> None:
    rows = make_rows(tasks=("reviews",), attacks=("badword",), defenses=("none", "mixing", "e-pur"))
    suite_results = Results([trained(r, 7.0) if (r.defense, r.seed) == ("mixing", 1) else r for r in rows])
    assert len(suite_results.cells_of_other_trainings) == 1 and sorted(
        suite_results.cells(PLACE, Competitor("mixing", 64))
    ) == [0, 2]
    assert Competitor("mixing", 64) not in suite_results.complete(PLACE)
    assert any("passed the gate: 1 cell." in sentence for sentence in tables.build(suite_results).footer)
