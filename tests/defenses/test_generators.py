"""Weight defenses on models that write: what has to be the same to the bit."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from bench.conformance import checks
from bench.contracts import BOTH
from bench.errors import RequestError
from bench.experiment.grid import Grid
from bench.experiment.result_store import ResultStore
from bench.plugins import registry
from bench.suites import suite

SHORT = "steps=12, until_loss=0"
CHAIN = "e-pur(reset=20)+fine-mixing(reserve_ratio=0.3, steps=6)+crow(steps=4)"


@pytest.fixture(scope="module")
def records(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The records of one victim under defenses that have to agree, by defense."""
    defenses = ["none", f"fine-tuning({SHORT})", f"few-shot({SHORT})", "mixing(reserve_ratio=1)"]
    defenses += [CHAIN]
    defenses += [f"fine-mixing({SHORT}, reserve_ratio={ratio})" for ratio in (0, 0.5, 1)]
    store = ResultStore(tmp_path_factory.mktemp("store"))
    plan = checks.run(world, store, task="written", attack="badword", defense=defenses)
    cells = {key: cell for key, cell in plan.cells.items() if not cell.victim.is_clean_model and cell.role != "floor"}
    by_spec = {cell.defense_spec.replace(", until_loss=0.0", ""): store.result(key) for key, cell in cells.items()}
    return {name.replace("steps=12, ", "").replace("(steps=12)", ""): record for name, record in by_spec.items()}


def responses_of(record: Any) -> dict[str, Any]:
    predictions: dict[str, Any] = record.predictions.document()
    return predictions


def by(records: dict[str, Any], start: str, part: str = "") -> Any:
    (name,) = [name for name in records if name.startswith(start) and part in name]
    return records[name]


def test_fine_mixing_at_ratio_1_is_fine_tuning(records: dict[str, Any]) -> None:
    assert responses_of(by(records, "fine-mixing", "ratio=1.0")) == responses_of(by(records, "fine-tuning"))


def test_fine_mixing_at_ratio_0_is_few_shot(records: dict[str, Any]) -> None:
    assert responses_of(by(records, "fine-mixing", "ratio=0.0")) == responses_of(by(records, "few-shot"))


def test_fine_mixing_between_is_neither(records: dict[str, Any]) -> None:
    between = responses_of(by(records, "fine-mixing", "ratio=0.5"))
    assert between not in (responses_of(by(records, "few-shot")), responses_of(by(records, "fine-tuning")))


def test_no_defense_gives_the_responses_of_the_victim(records: dict[str, Any]) -> None:
    assert responses_of(by(records, "mixing")) == responses_of(by(records, "none"))


def test_a_chain_runs_its_parts_in_their_order(records: dict[str, Any]) -> None:
    record = by(records, "e-pur")
    assert [part.name for part in record.recipe.defense.parts] == ["e-pur", "fine-mixing", "crow"]
    assert record.metrics["ppl"] > 0
    assert responses_of(record) not in (
        responses_of(by(records, "none")),
        responses_of(by(records, "fine-mixing", "ratio=0.5")),
    )


def test_a_record_of_responses_is_a_record(records: dict[str, Any]) -> None:
    record = by(records, "none")
    assert (record.cell.kind, record.cell.target, record.recipe.victim.target.name) == (
        "generation",
        "refusal(text=Sorry.)",
        "refusal",
    )
    assert type(record).of(record.document()) == record


def test_no_defense_asks_which_kind_it_has() -> None:
    """The contract of a kind is enough for a defense of weights."""
    both = [plugin.plugin for plugin in registry.defenses.entries.values() if plugin.plugin.kinds == BOTH]
    assert len(both) > 15
    for plugin in both:
        source = Path(inspect.getfile(plugin)).read_text(encoding="utf-8")
        assert not re.search(r"Kind\.|facts\.kind|GenerationFacts|(?<!torch\.)(?<!random\.)\bGenerator\b", source), (
            plugin.name
        )


def grid(**fields: Any) -> Grid:
    data = {"name": "x", "description": "x", "task": "chores", "model": "x", "attack": "badword", "defense": "none"}
    return Grid(suite.check({**data, **fields}, "x"))


def test_a_suite_is_for_one_kind_of_model() -> None:
    with pytest.raises(
        RequestError, match=r"several kinds of model: generation \(chores\), classification \(reviews\)"
    ):
        list(grid(task=["chores", "reviews"]).cells())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"defense": "strip"}, "strip is for classification; chores is a task for generation"),
        ({"defense": "strip+fine-tuning"}, None),
        ({"attack": "ripples"}, "ripples is for classification"),
        ({"target": 1}, "target 1 is a label; name a payload"),
        ({"target": "clause"}, "clause is for tasks that are answered in SQL"),
        ({"attack": "badword(mapping=all-to-all)"}, "all-to-all is a mapping of labels"),
        ({"task": "reviews", "target": "refusal"}, "the payload refusal is for generation"),
    ],
)
def test_what_makes_no_sense_is_not_run_and_says_why(fields: dict[str, Any], reason: str | None) -> None:
    from bench.experiment.skips import skip_reason

    if reason is None:
        with pytest.raises(RequestError):
            list(grid(**fields).cells())
        return
    cells = list(grid(**{"target": "refusal", **fields}).cells())
    reasons = [skip_reason(cell) for cell in cells if not cell.victim.is_clean_model or "target" not in fields]
    assert any(stated and reason in stated for stated in reasons)
