"""Two defenses side by side."""

from __future__ import annotations

import json

import pytest

from bench.errors import RequestError
from bench.report.figures import comparison as figure
from bench.report.ranking.comparison import EVERY, METRICS, compare
from bench.report.ranking.results import Results
from tests.report.synthetic import make_rows


def test_differences_are_those_of_the_means() -> None:
    results = Results(make_rows())
    comparison = compare(results, "e-pur+fine-mixing", "fine-mixing")
    assert comparison.attacks == [EVERY, "badword", "badsent"]
    assert len(comparison.differences) == 3 * len(METRICS)
    frame = results.frame.set_index(["attack", "defense"])
    for one in comparison.differences:
        if one.attack != EVERY and one.metric.name == "asr":
            means = [frame.loc[one.attack, name]["asr"].mean() for name in (comparison.first, comparison.second)]
            estimate = one.measured.estimate
            assert estimate is not None and estimate.value == pytest.approx(means[0] - means[1])
            assert estimate.low < estimate.value < estimate.high < 0 and one.verdict == "first"
    swapped = compare(results, "fine-mixing", "e-pur+fine-mixing")
    assert {one.verdict for one in swapped.differences if one.metric.name == "asr"} == {"second"}
    entry = json.loads(json.dumps(comparison.json()))["differences"][0]
    assert entry["interval"][0] <= entry["difference"] <= entry["interval"][1] and entry["trainings"] == 6


def test_chance_is_not_called_a_difference() -> None:
    rows = make_rows(outcome=lambda task, attack, defense, seed: (85.0 + (seed + len(defense)) % 3, 50.0))
    comparison = compare(Results(rows), "fine-tuning", "fine-pruning")
    assert {one.verdict for one in comparison.differences if one.metric.name == "acc"} == {""}


def test_one_attack_stands_alone_and_the_victim_may_be_compared() -> None:
    comparison = compare(Results(make_rows(attacks=("clean", "badword"))), "fine-mixing", "none")
    assert comparison.attacks == ["badword"]


def test_wrong_names() -> None:
    results = Results(make_rows(tasks=("reviews",), seeds=(0,)))
    with pytest.raises(RequestError, match="Did you mean 'fine-mixing'"):
        compare(results, "fine-mixin", "none")
    with pytest.raises(RequestError, match="with itself"):
        compare(results, "fine-mixing", "fine-mixing")
    weak = make_rows(victim=lambda task, attack, seed: (87.0, 20.0))
    with pytest.raises(RequestError, match="no finished cells in common whose attack implanted"):
        compare(Results(weak), "fine-mixing", "fine-tuning")


def test_figure_has_a_panel_for_each_metric_and_a_row_for_each_attack() -> None:
    comparison = compare(Results(make_rows()), "e-pur+fine-mixing", "fine-mixing")
    panels = figure.differences(comparison).axes
    assert [axes.get_title().split("\n")[0] for axes in panels] == [metric.heading for metric in METRICS]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == comparison.attacks
    drawn = [line.get_xdata()[0] for line in panels[1].lines[1:]]
    assert drawn == [one.measured.estimate.value for one in comparison.differences if one.metric is METRICS[1]]
