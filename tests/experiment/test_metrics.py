"""The table of metrics against definitions that are written out by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.contracts import Predictions
from bench.experiment import metrics, predictions
from bench.experiment.answers import Answers, Judged
from bench.experiment.metrics import MEASURED, METRICS, Show

TARGET = 2
CLASSES = 3
ROOT = Path(__file__).parents[2]
Example = tuple[int, int, bool]  # gold label, predicted label, rejected
EXAMPLE = st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1), st.booleans())
CLEAN = st.lists(EXAMPLE, min_size=1, max_size=30)
TRIGGERED = st.lists(st.tuples(st.integers(0, TARGET - 1), st.integers(0, 2), st.booleans()), min_size=1, max_size=30)


def answers(rows: list[Example]) -> Answers:
    gold, labels, rejected = (np.array(column) for column in zip(*rows, strict=True))
    return Answers(gold, labels, rejected)


def share(rows: list[Example], hit: Callable[[Example], bool]) -> float:
    count = 0
    for row in rows:
        if hit(row):
            count += 1
    return 100 * count / len(rows)


def brute(clean: list[Example], triggered: list[Example]) -> dict[str, float]:
    """Every metric of a defense that may reject, by counting."""
    return {
        "acc": share(clean, lambda row: row[0] == row[1] and not row[2]),
        "asr": share(triggered, lambda row: row[1] == TARGET and not row[2]),
        "ra": share(triggered, lambda row: row[0] == row[1] and not row[2]),
        "frr": share(clean, lambda row: row[2]),
        "far": share(triggered, lambda row: not row[2]),
    }


@given(CLEAN, TRIGGERED)
def test_percentages_equal_what_one_counts(clean: list[Example], triggered: list[Example]) -> None:
    judged = Judged(clean=answers(clean), triggered=answers(triggered), target=TARGET, rejects=True)
    expected = brute(clean, triggered)
    measured = metrics.measure(judged)
    assert {name: measured[name] for name in expected} == pytest.approx(expected)
    for name, each in metrics.outcomes(judged).items():
        assert each is None or (each.dtype == np.float64 and set(each[~np.isnan(each)]) <= {0.0, 1.0}), name
        assert (
            each is None
            or measured[name] == 100 * np.nanmean(each)
            or measured[name] == pytest.approx(100 * np.nanmean(each))
        )


@given(CLEAN, TRIGGERED)
def test_every_example_may_have_a_target_of_its_own(clean: list[Example], triggered: list[Example]) -> None:
    targets = np.array([(gold + 1) % CLASSES for gold, _, _ in triggered])
    judged = Judged(clean=answers(clean), triggered=answers(triggered), target=targets, rejects=False)
    hit = [label == (gold + 1) % CLASSES and not refused for gold, label, refused in triggered]
    assert metrics.measure(judged)["asr"] == pytest.approx(100 * np.mean(hit))


@given(CLEAN, st.none() | TRIGGERED, st.booleans())
def test_a_metric_is_the_same_from_the_stored_predictions(
    clean: list[Example], triggered: list[Example] | None, rejects: bool
) -> None:
    judged = Judged(
        clean=answers(clean),
        triggered=None if triggered is None else answers(triggered),
        target=TARGET,
        rejects=rejects,
    )

    def stored(part: Answers | None) -> dict[str, object] | None:
        if part is None:
            return None
        probabilities = np.eye(CLASSES, dtype=np.float32)[part.labels]
        return predictions.encode(part.gold, Predictions(part.labels, probabilities, part.rejected))

    record = {"clean": stored(judged.clean), "triggered": stored(judged.triggered)}
    assert metrics.measure(predictions.judged(record, target=TARGET, rejects=rejects)) == metrics.measure(judged)


def test_what_is_not_defined_is_none_and_an_empty_set_is_an_error() -> None:
    clean = answers([(0, 0, False)])
    reference = metrics.measure(Judged(clean=clean, triggered=None, target=TARGET, rejects=False))
    assert {name for name, value in reference.items() if value is not None} == {"acc", "majority"}
    for nothing in (np.zeros(0), np.array([np.nan, np.nan])):
        with pytest.raises(ValueError, match="empty"):
            metrics.percent(nothing)
    assert metrics.percent(np.array([1.0, 0.0, np.nan, 1.0])) == pytest.approx(200 / 3)


PERCENT = st.floats(0, 100) | st.just(math.nan)


@given(*[st.fixed_dictionaries({name: PERCENT for name in MEASURED})] * 3)
def test_scores_are_unknown_where_a_percentage_is(
    cell: dict[str, float], victim: dict[str, float], clean: dict[str, float]
) -> None:
    compared = metrics.compared(cell, victim=victim, clean=clean)
    assert set(compared) == set(METRICS)
    assert compared["drop"] == pytest.approx(victim["acc"] - cell["acc"], nan_ok=True)
    needed = (cell["acc"], victim["acc"], victim["flip"], victim["majority"])
    if any(map(math.isnan, needed)) or victim["acc"] <= victim["majority"]:
        assert math.isnan(compared["der"])
    else:
        assert 0 <= compared["der"] <= 100


def rated(acc: float, flip: float, **options: float) -> float:
    beside = {"victim_acc": 90.0, "victim_flip": 100.0, "majority": 50.0, **options}
    return float(metrics.rating(acc, flip, **beside))


def test_known_values_of_the_rating() -> None:
    assert rated(90, 100) == 50, "doing nothing"
    assert rated(90, 0) == 100 and rated(90, 50) == 75 and rated(95, 0) == 100
    assert rated(86, 0) == 95, "4 of the 40 points above the larger class are a tenth of what the model knows"
    assert rated(50, 0) == 50 and rated(50, 100) == 0, "always answering the larger class, or the target"
    assert rated(10, math.nan) == 0, "nothing is right, so nothing is known of the backdoor"
    assert rated(90, 100, victim_flip=60.0) == 50, "a backdoor cannot be made larger for a worse rating than that"
    assert math.isnan(rated(math.nan, 0)) and math.isnan(rated(90, 0, majority=90.0))


def test_every_metric_says_what_it_is() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch("[a-z]+", name) and metric.title and metric.definition and metric.decimals >= 0
        assert not metric.definition.endswith(".") and not metric.details.endswith(".")
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)
    assert sum(metric.ranks for metric in METRICS.values()) == 1
    assert not any(metric.core for metric in [*METRICS.values()][[m.core for m in METRICS.values()].count(True) :])


def test_a_metric_without_numbers_is_left_out_unless_it_is_core() -> None:
    nothing = dict.fromkeys(METRICS, math.nan)
    assert metrics.shown(Show.BOARD, known=[nothing]) == [m for m in metrics.shown(Show.BOARD) if m.core]
    assert metrics.shown(Show.BOARD, known=[nothing, dict.fromkeys(METRICS, 1.0)]) == metrics.shown(Show.BOARD)


def test_no_other_file_names_the_metrics() -> None:
    """Charts and ranks speak of the ranking metric, of accuracy and of its cost; the others are nowhere else."""
    rare = [name for name, metric in METRICS.items() if not (metric.ranks or name in ("acc", "drop", "asr"))]
    word = re.compile(rf"""["'](?:{"|".join(rare)})["']|\.(?:{"|".join(rare)})\b""")
    rooms = ("api.py", "session.py", "experiment", "report", "results")
    files = [path for room in rooms for path in (ROOT / "bench" / room, *(ROOT / "bench" / room).rglob("*"))]
    for path in files:
        if path.suffix in (".py", ".js", ".j2") and path.name != "metrics.py":
            assert not word.findall(path.read_text(encoding="utf-8")), path


@given(CLEAN, st.data())
def test_the_flip_rate_counts_what_is_right_without_the_trigger(clean: list[Example], data: st.DataObject) -> None:
    rows = [row for row, example in enumerate(clean) if example[0] != TARGET]
    if not rows:
        return
    sources = data.draw(st.lists(st.sampled_from(rows), min_size=1, max_size=30))
    triggered = [(clean[row][0], data.draw(st.integers(0, 2)), data.draw(st.booleans())) for row in sources]
    judged = Judged(
        clean=answers(clean), triggered=answers(triggered), target=TARGET, rejects=True, sources=np.array(sources)
    )
    flipped = [
        label == TARGET and not refused
        for (_, label, refused), row in zip(triggered, sources, strict=True)
        if clean[row][0] == clean[row][1] and not clean[row][2]
    ]
    expected = 100 * sum(flipped) / len(flipped) if flipped else None
    assert metrics.measure(judged)["flip"] == (None if expected is None else pytest.approx(expected))


def test_without_sources_there_is_no_flip_rate() -> None:
    one = answers([(0, 0, False)])
    assert metrics.measure(Judged(clean=one, triggered=one, target=TARGET, rejects=False))["flip"] is None
