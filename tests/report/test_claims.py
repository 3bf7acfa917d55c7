from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
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
    judgement = verdict(claim())
    assert judgement.outcome == "supported"
    (finding,) = judgement.findings
    assert finding.measured.estimate is not None and finding.measured.estimate.high < -10
    assert finding.measured.places == 4 and finding.measured.seeds == 6, "three on each of two tasks"
    assert len(set(finding.measured.cells)) == 4 * 3 * 2


def test_the_opposite_is_refuted() -> None:
    assert verdict(claim(), asr=94.0).outcome == "refuted"


def test_an_effect_at_the_bound_is_undecided() -> None:
    judgement = verdict(claim(), asr=87.0)
    assert judgement.outcome == "undecided"
    assert judgement.findings[0].reason.startswith("not significant either way with 6 trainings; ")


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2), range(5)])
def test_few_trainings_decide_nothing_and_it_is_said_how_many_would(seeds: Sequence[int]) -> None:
    for asr in (5.0, 99.0):
        judgement = verdict(claim(each=["task"]), asr=asr, seeds=seeds)
        assert judgement.outcome == "undecided"
        assert all(one.needed is not None and one.needed > len(seeds) for one in judgement.findings)
        assert all(f"with {len(seeds)} trainings; about" in one.reason for one in judgement.findings) or len(seeds) == 1


def test_seeds_that_did_not_implant_do_not_count() -> None:
    judgement = verdict(claim(), victim=lambda task, attack, seed: (87.0, 50.0 if seed == 2 else 99.0))
    assert judgement.outcome == "undecided" and judgement.findings[0].measured.seeds == 4


def test_a_place_that_lacks_a_seed_does_not_take_it_from_the_others() -> None:
    weak = ("questions", "badsent", 2)
    judgement = verdict(claim(), victim=lambda *place: (87.0, 50.0 if place == weak else 99.0))
    assert judgement.outcome == "supported"
    assert judgement.findings[0].measured.seeds == 6 and judgement.findings[0].measured.places == 4
    assert len(judgement.findings[0].measured.cells) == 2 * (4 * 3 - 1)


def test_claims_of_a_page_share_one_level() -> None:
    others = [claim(name=f"claim-{i}") for i in range(5)]
    assert verdict(claim()).outcome == "supported"
    rows = make_rows(defenses=("none", "fine-tuning", "fine-mixing"),
                     outcome=lambda t, a, d, s: (85.0, 30.0 if d == "fine-mixing" else 99.0))  # fmt: skip
    page = check(rows, claims=[claim(), *others])
    assert {one.outcome for one in page} == {"undecided"}, "six trainings reach 1 in 64, not a sixth of 2.5 %"


def test_equivalence_has_to_be_shown() -> None:
    same = claim(tests=[{"metric": "acc", "of": "fine-mixing", "minus": "fine-tuning", "within": 5}])
    assert verdict(same, seeds=range(4), examples=2000).outcome == "supported"
    assert verdict(same, seeds=range(2)).outcome == "undecided"
    far = claim(tests=[{"metric": "asr", "of": "fine-mixing", "minus": "fine-tuning", "within": 5}])
    assert verdict(far, seeds=range(4)).outcome == "refuted"


@pytest.mark.parametrize("spread", [0.0, 20.0])
def test_false_support_is_rare(spread: float) -> None:
    """The truth is at the bound: of pages of one claim, at most one in twenty may support it."""
    world, supported, pages = np.random.default_rng(0), 0, 120
    for _ in range(pages):

        def outcome(task: str, attack: str, defense: str, seed: int) -> tuple[float, float]:
            drawn = float(np.clip(world.normal(60 if defense == "fine-mixing" else 70, spread), 0, 100))
            return 85.0, 100 * world.binomial(400, drawn / 100) / 400

        rows = make_rows(tasks=("reviews",), attacks=("badword",), defenses=("none", "fine-tuning", "fine-mixing"),
                         seeds=range(7), outcome=outcome, examples=100)  # fmt: skip
        supported += check(rows, claims=[claim()])[0].outcome == "supported"
    assert supported / pages <= 0.05 + 2 * (0.05 * 0.95 / pages) ** 0.5


def test_attacks_that_did_not_implant_are_left_out() -> None:
    judgement = verdict(claim(), victim=lambda task, attack, seed: (87.0, 50.0))
    assert judgement.outcome == "undecided" and not judgement.findings and "implanted" in judgement.reason


def test_a_claim_about_every_task_fails_by_one() -> None:
    outcome = lambda t, a, d, s: (85.0, 30.0 if d == "fine-mixing" and t == "reviews" else 99.0)  # noqa: E731
    judgement = verdict(claim(each=["task"]), outcome=outcome, seeds=range(8))
    assert {one.group: one.outcome for one in judgement.findings} == {
        "task=reviews": "supported",
        "task=questions": "refuted",
    }
    assert judgement.outcome == "refuted"


def test_support_needs_all_tasks_and_attacks_it_speaks_of() -> None:
    assert "2 of the 5 tasks" in verdict(claim(tasks_needed=5)).reason
    judgement = verdict(claim(attacks=["badword", "layer-wise*"], attacks_needed=2))
    assert judgement.outcome == "undecided" and "1 of the 2 attacks" in judgement.reason
    assert verdict(claim(tasks_needed=5), asr=94.0).outcome == "refuted"


def test_levels_and_the_undefended_victim() -> None:
    level = claim(tests=[{"metric": "asr", "of": "fine-tuning", "above": 50}])
    assert verdict(level).outcome == "supported"
    kept = claim(tests=[{"metric": "acc", "of": "fine-mixing", "minus": "none", "above": -10}])
    judgement = verdict(kept)
    assert judgement.outcome == "supported" and len(judgement.findings[0].measured.cells) == 4 * 3 * 2


def test_the_largest_allowed_clean_sample_counts() -> None:
    rows = {row.cell_key: row for row in make_rows(sizes=(16, 64, 256), defenses=("none", "fine-tuning"))}
    kept = claim(most_clean=64, tests=[{"metric": "acc", "of": "fine-tuning", "above": 10}])
    (judgement,) = check(rows.values(), claims=[kept])
    assert {rows[key].clean_size for key in judgement.findings[0].measured.cells} == {64}
    assert judgement.findings[0].measured.clean == (64,)


def test_the_sample_that_most_places_have_comes_first() -> None:
    swept = make_rows(tasks=("reviews",), sizes=(16, 64, 256), defenses=("none", "fine-tuning"))
    rows = {row.cell_key: row for row in (*swept, *make_rows(tasks=("questions",), defenses=("none", "fine-tuning")))}
    (judgement,) = check(rows.values(), claims=[claim(tests=[{"metric": "acc", "of": "fine-tuning", "above": 10}])])
    assert judgement.findings[0].measured.places == 4
    assert {rows[key].clean_size for key in judgement.findings[0].measured.cells} == {64}
    assert judgement.findings[0].measured.clean == (64,)


def test_missing_cells_are_said() -> None:
    rows = changed(make_rows(), lambda row: row.defense == "fine-mixing", record=None)
    (judgement,) = check(rows, claims=[claim()])
    assert judgement.outcome == "undecided" and judgement.findings[0].reason == "no finished cells to compare"


def test_the_papers_claims_can_be_read_and_rendered() -> None:
    claims = read()
    assert [one.name for one in claims] == [
        "fine-mixing-outperforms", "more-than-training-anew", "e-pur-helps-fine-mixing", "e-pur-helps-others",
        "accuracy-kept", "holds-against-sophisticated",
    ]  # fmt: skip
    verdicts = check(make_rows(), claims=claims)
    data = {one["name"]: one for one in json.loads(json.dumps(as_json(verdicts)))}
    assert data["fine-mixing-outperforms"]["verdict"] == "undecided"
    assert data["more-than-training-anew"]["tests"][0]["reason"] == "few-shot not run here"
    assert data["holds-against-sophisticated"]["tests"] == []
    for width in (80, 160):
        console = Console(file=io.StringIO(), width=width)
        for part in renderables(verdicts, width=width):
            console.print(part)
        output = console.file.getvalue()  # type: ignore[attr-defined]
        assert "UNDECIDED  fine-mixing-outperforms" in output and "task=reviews" in output
        words = {word.strip(":,;") for word in output.split()}
        assert {"fine-mixing", "trainings", "undecided"} <= words  # no word is cut
        assert max(map(len, output.splitlines())) <= width


def written(test: str, more: str = "") -> str:
    """Return a file with one claim of one test."""
    return f"- {{name: x, statement: s, origin: o, tests: [{{{test}}}]{', ' if more else ''}{more}}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x", "a list of claims"),
        ("", "a list of claims"),
        ("[]", "a list of claims"),
        ("- a text", "claim 1: Input should be an object"),
        ("- {name: x}", "statement is missing"),
        (written("metric: acc, of: a"), "exactly one of below, above and within"),
        (written("metric: acc, of: a, below: 1, above: 0"), "exactly one of below, above and within"),
        (written("metric: f1, of: a, below: 1"), "tests.0.metric = 'f1': unknown metric. Valid: acc"),
        (written("metric: acc, of: a, belo: 1"), "tests.0: unknown field 'belo'. Did you mean 'below'"),
        (written("metric: acc, of: a, below: .nan"), "tests.0.below = nan: Input should be a finite number"),
        (written("metric: acc, of: a, above: -.inf"), "tests.0.above = -inf: Input should be a finite number"),
        (written("metric: acc, of: a, below: '1'"), "tests.0.below = '1': Input should be a valid number"),
        (written("metric: acc, of: a, below: true"), "tests.0.below = True: Input should be a valid number"),
        (written("metric: acc, of: a, within: 0"), "tests.0.within = 0: Input should be greater than 0"),
        (written("metric: acc, of: 2020, below: 1"), 'put it into quotes: "2020"'),
        (written("metric: acc, metric: asr, of: a, below: 1"), "duplicate key 'metric'"),
        (written("metric: acc, of: a, below: 1") * 2, "two claims are called 'x'"),
        (
            written("metric: acc, of: a, below: 1", "most_clean: 1.5"),
            "most_clean = 1.5: Input should be a valid integer",
        ),
        (written("metric: acc, of: a, below: 1", "each: [model]"), "each.0 = 'model'"),
        (written("metric: acc, of: a, below: 1", "attack: [x]"), "unknown field 'attack'. Did you mean 'attacks'"),
        (written("metric: acc, of: a, below: 1", "name: X"), "duplicate key 'name'"),
        ("- [", "line 1, column 4"),
        ("- !!python/name:os.system", "python/name"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "claims.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=re.escape(message)) as error:
        read(tmp_path / "claims.yaml")
    assert "\n" not in str(error.value) and str(tmp_path / "claims.yaml") in str(error.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"- name: caf\xe9\n")
    for name, message in (("latin.yaml", "not UTF-8 at byte 11"), ("none.yaml", "No such file"), (".", "directory")):
        with pytest.raises(RequestError, match=message):
            read(tmp_path / name)
