from __future__ import annotations

import pytest

from bench.errors import RequestError
from bench.report import explain
from tests.report.synthetic import changed, make_rows, not_applicable

ROWS = make_rows()


def test_a_number_of_the_table_is_told_seed_by_seed() -> None:
    text = explain(ROWS, "reviews:badword:fine-mixing")
    assert text.startswith("fine-mixing against badword on reviews (embedded), suite invented\nOver 3 of 3 seeds")
    for seed in (0, 1, 2):
        assert f"Seed {seed}, cell " in text
    for part in (
        "Reserve ratio 0.3.", "0: 14.0 (14.0), 0.1: 10.8 (10.8)", "the smallest with a fitted loss of at most 5",
        "The attack implanted",
        "Labels that the defense saw: 64", "touched: clean, pretrained", "defense 95.0", "Record: records/",
        "rate=0.1", "the clean model on the same test sets: ACC", "ASR: triggered test examples",
    ):  # fmt: skip
        assert part in text, part


def test_counts_are_the_examples_behind_the_percentages() -> None:
    row = next(r for r in ROWS if r.defense == "fine-tuning" and r.attack == "badword" and r.seed == 1)
    text = explain(ROWS, row.cell_key[:12])
    hits = row.outcomes["acc"]
    assert hits is not None and f"= {int(hits.sum())} of {len(hits)} examples" in text
    assert f"ACC {row.metric('acc'):.2f}" in text and "Seed 0" not in text


def test_one_seed_the_victim_and_the_floor() -> None:
    assert "Seed 2" in (text := explain(ROWS, "questions:badsent:e-pur:2")) and "Seed 1" not in text
    assert explain(ROWS, "reviews:badword:none").startswith("none against badword")
    assert explain(ROWS, "reviews:badword:clean model").startswith("clean model against badword")
    assert "ASR" not in explain(ROWS, "reviews:clean:fine-tuning").split("Seed 0")[1].split("Seed 1")[0]


def test_what_has_no_numbers_says_why() -> None:
    rows = changed(ROWS, lambda r: r.defense == "mixing", record=None, failure="Traceback\n  x\nOSError: disk full")
    rows = changed(rows, lambda r: r.defense == "e-pur", record=None)
    rows = [not_applicable(r, "pairs only") if r.defense == "fine-pruning" else r for r in rows]
    assert "Reason: OSError: disk full" in explain(rows, "reviews:badword:mixing")
    assert "There is no record yet" in explain(rows, "reviews:badword:e-pur")
    assert "Reason: pairs only" in explain(rows, "reviews:badword:fine-pruning")


def test_a_weak_attack_is_named() -> None:
    rows = make_rows(tasks=("reviews",), attacks=("badword",), victim=lambda t, a, s: (87.0, 20.0))
    assert "did NOT implant" in explain(rows, "reviews:badword:fine-tuning:0")


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("reviews:badwort:none", "unknown attack 'badwort'. Did you mean 'badword'"),
        ("review:badword:none", "Did you mean 'reviews'"),
        ("reviews:badword:none:9", "Valid: 0, 1, 2"),
        ("reviews", "write TASK:ATTACK:DEFENSE"),
        ("0123456789abcdef", "no cell of this suite"),
    ],
)
def test_a_wrong_selector_names_the_choices(selector: str, message: str) -> None:
    with pytest.raises(RequestError) as error:
        explain(ROWS, selector)
    assert message in str(error.value) and "\n" not in str(error.value)
