from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bench.errors import RequestError
from bench.report.ranking.claims import Claim, Verdict, check, read
from bench.report.ranking.verdicts import as_json, renderables
from tests.report.synthetic import changed, make_rows


def claim(**options: object) -> Claim:
    tests = [{"metric": "asr", "of": "fine-mixing", "minus": "fine-tuning", "below": -10}]
    return Claim.model_validate({"name": "one", "statement": "It helps.", "origin": "here", "tests": tests, **options})


def verdict(one: Claim, asr: float = 30.0, **options: object) -> Verdict:
    outcome = lambda t, a, d, s: (85.0 + s * 0.1, asr + 2.0 * s if d == "fine-mixing" else 99.0)  # noqa: E731
    defaults = {"defenses": ("none", "fine-tuning", "fine-mixing"), "outcome": outcome}
    return check(make_rows(**{**defaults, **options}), claims=[one])[0]  # type: ignore[arg-type]


def test_a_clear_effect_is_supported_with_its_cells() -> None:
    found = verdict(claim())
    assert found.outcome == "supported"
    (finding,) = found.findings
    assert finding.measured.estimate is not None and finding.measured.estimate.high < -10
    assert finding.measured.places == 4 and finding.measured.seeds == 3
    assert len(set(finding.measured.cells)) == 4 * 3 * 2


def test_the_opposite_is_refuted() -> None:
    assert verdict(claim(), asr=94.0).outcome == "refuted"


def test_an_effect_at_the_bound_is_undecided() -> None:
    found = verdict(claim(), asr=87.0)
    assert found.outcome == "undecided" and found.findings[0].reason == "not significant either way"


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_there_is_never_a_verdict_from_fewer_than_three_seeds(seeds: tuple[int, ...]) -> None:
    for asr in (5.0, 99.0):
        found = verdict(claim(each=["task"]), asr=asr, seeds=seeds)
        assert found.outcome == "undecided"
        assert all(one.reason == f"{len(seeds)} of at least 3 seeds" for one in found.findings)


def test_seeds_that_did_not_implant_do_not_make_three() -> None:
    found = verdict(claim(), victim=lambda task, attack, seed: (87.0, 50.0 if seed == 2 else 99.0))
    assert found.outcome == "undecided" and found.findings[0].measured.seeds == 2


def test_a_place_with_too_few_seeds_does_not_take_those_of_the_others() -> None:
    weak = ("questions", "badsent", 2)
    found = verdict(claim(), victim=lambda *place: (87.0, 50.0 if place == weak else 99.0))
    assert found.outcome == "supported" and found.reason.endswith("; 1 of 4 places left out, with fewer than 3 seeds")
    assert found.findings[0].measured.seeds == 3 and found.findings[0].measured.places == 3


def test_attacks_that_did_not_implant_are_left_out() -> None:
    found = verdict(claim(), victim=lambda task, attack, seed: (87.0, 50.0))
    assert found.outcome == "undecided" and not found.findings and "implanted" in found.reason


def test_a_claim_about_every_task_fails_by_one() -> None:
    outcome = lambda t, a, d, s: (85.0, 30.0 if d == "fine-mixing" and t == "reviews" else 99.0)  # noqa: E731
    found = verdict(claim(each=["task"]), outcome=outcome)
    assert {one.group: one.outcome for one in found.findings} == {
        "task=reviews": "supported",
        "task=questions": "refuted",
    }
    assert found.outcome == "refuted"


def test_support_needs_all_tasks_and_attacks_it_speaks_of() -> None:
    assert "2 of the 5 tasks" in verdict(claim(tasks_needed=5)).reason
    found = verdict(claim(attacks=["badword", "layer-wise*"], attacks_needed=2))
    assert found.outcome == "undecided" and "1 of the 2 attacks" in found.reason
    assert verdict(claim(tasks_needed=5), asr=94.0).outcome == "refuted"


def test_levels_and_the_undefended_victim() -> None:
    level = claim(tests=[{"metric": "asr", "of": "fine-tuning", "above": 50}])
    assert verdict(level).outcome == "supported"
    kept = claim(tests=[{"metric": "acc", "of": "fine-mixing", "minus": "none", "above": -10}])
    found = verdict(kept)
    assert found.outcome == "supported" and len(found.findings[0].measured.cells) == 4 * 3 * 2


def test_the_largest_allowed_clean_sample_counts() -> None:
    rows = {row.cell_key: row for row in make_rows(sizes=(16, 64, 256), defenses=("none", "fine-tuning"))}
    kept = claim(most_clean=64, tests=[{"metric": "acc", "of": "fine-tuning", "above": 10}])
    (found,) = check(rows.values(), claims=[kept])
    assert {rows[key].clean_size for key in found.findings[0].measured.cells} == {64}
    assert found.findings[0].measured.clean == (64,)


def test_the_sample_that_most_places_have_comes_first() -> None:
    swept = make_rows(tasks=("reviews",), sizes=(16, 64, 256), defenses=("none", "fine-tuning"))
    rows = {row.cell_key: row for row in (*swept, *make_rows(tasks=("questions",), defenses=("none", "fine-tuning")))}
    (found,) = check(rows.values(), claims=[claim(tests=[{"metric": "acc", "of": "fine-tuning", "above": 10}])])
    assert found.findings[0].measured.places == 4
    assert {rows[key].clean_size for key in found.findings[0].measured.cells} == {64}
    assert found.findings[0].measured.clean == (64,)


def test_missing_cells_are_said() -> None:
    rows = changed(make_rows(), lambda row: row.defense == "fine-mixing", record=None)
    (found,) = check(rows, claims=[claim()])
    assert found.outcome == "undecided" and found.findings[0].reason == "no finished cells to compare"


def test_the_papers_claims_can_be_read_and_rendered() -> None:
    claims = read()
    assert [one.name for one in claims] == [
        "fine-mixing-outperforms", "e-pur-helps-others", "accuracy-kept", "holds-against-sophisticated"
    ]  # fmt: skip
    verdicts = check(make_rows(), claims=claims)
    data = json.loads(json.dumps(as_json(verdicts)))
    assert data[0]["verdict"] == "undecided" and "2 of the 5 tasks" in data[0]["reason"]
    assert data[1]["tests"][2]["reason"] == "e-pur+fine-pruning-f not run here"
    assert data[3]["tests"] == []
    console = Console(file=io.StringIO(), width=100)
    for part in renderables(verdicts):
        console.print(part)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "UNDECIDED  fine-mixing-outperforms" in told and "task=reviews" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x", "a list of claims"),
        ("- {name: x}", "Field required"),
        ("- {name: x, statement: s, origin: o, tests: [{metric: acc, of: a}]}", "exactly one of below and above"),
        ("- {name: x, statement: s, origin: o, tests: [{metric: f1, of: a, below: 1}]}", "tests.0.metric"),
        ("- [", "expected the node content"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "claims.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=message) as error:
        read(tmp_path / "claims.yaml")
    assert "\n" not in str(error.value)
