"""Attacks with modifiers: how they are spelled, keyed, planned and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.cli import listing
from bench.contracts import Hooks
from bench.errors import RequestError
from bench.experiment import grid, recipes
from bench.experiment.plan import Plan
from bench.plugins import catalogue, registry
from bench.plugins.modified import Modified, both, hooked, modified, steps_of
from bench.store import words
from bench.suites import suite
from tests.fakes import examples, scene


def plan(world: Path, *attacks: Any) -> Plan:
    data = {
        "name": "mine",
        "description": "d",
        "task": {"name": "local/single", "max_length": 32},
        "model": str(world / "tiny-bert"),
        "attack": list(attacks),
        "defense": ["none"],
    }
    return Plan(suite.check(data, "mine"))


def test_a_plain_attack_is_what_the_registry_makes() -> None:
    for entry in ("badword(rate=0.2)", {"name": "badword", "rate": 0.2}):
        assert modified(entry) == registry.attacks.create("badword(rate=0.2)")


@pytest.mark.parametrize(
    ("entry", "spec"),
    [
        ("anchored+badword", "anchored+badword"),
        ("anchored", "anchored+badword"),
        ("adaptive(holds=trigger)", "adaptive(holds=trigger)+badword"),
        ("sparse(count=9) + badsent(rate=0.3)", "sparse(count=9)+badsent(rate=0.3)"),
        ("anchored+sparse", "anchored+sparse+badword"),
        ({"name": "anchored+badword", "rate": 0.3}, "anchored+badword(rate=0.3)"),
        ({"name": "anchored", "strength": 3}, "anchored(strength=3.0)+badword"),
    ],
)
def test_spelling(entry: Any, spec: str) -> None:
    made = modified(entry)
    assert made.spec == spec
    assert modified(made.spec) == made
    assert words.attack_words(made.recipe()) == spec


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("badword+badsent", "unknown modifier 'badword'"),
        ("anchord+badword", "Did you mean 'anchored'"),
        ("anchored+badwrd", "Did you mean 'badword'"),
        ("anchored(strenth=1)+badword", "strength"),
        ("anchored(strength=-1)+badword", "strength"),
        ("anchored+anchored+badword", "twice"),
        ("anchored+", "cannot read"),
        ({"name": "anchored+badword", "strength": 1}, "unknown field of badword"),
    ],
)
def test_mistakes_are_refused(entry: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message.replace("(", r"\(")):
        modified(entry)


def test_the_clean_reference_cannot_be_modified() -> None:
    with pytest.raises(RequestError, match="nothing that could be modified"):
        grid.create_attack("anchored+clean")


def test_keys_know_every_modifier_and_its_fields(world: Path) -> None:
    entries = ["badword", "anchored+badword", "anchored(strength=3)+badword", "anchored+sparse+badword"]
    keys = [recipes.victim_key(spec) for spec in plan(world, *entries, "sparse+anchored+badword").victims.values()]
    assert len(keys) == len(set(keys)) == 6  # with the clean reference
    (plain,) = [spec for spec in plan(world, "badword").victims.values() if not spec.is_clean_model]
    assert recipes.victim_recipe(plain)["attack"] == registry.attacks.create("badword").recipe()
    made = modified("anchored+badword")
    assert made.recipe()["parts"][-1] == registry.attacks.create("badword").recipe()
    assert {"rate", "anchored.strength"} <= set(made.parameters())
    assert made.parameters()["from"] == "finetuned"  # where anchoring starts


@pytest.mark.parametrize(
    ("attack", "waits"),
    [
        ("badword", False),
        ("badword(from=finetuned)", True),
        ("anchored+badword", True),
        ("anchored(from=attack)+badword", True),
        ("sparse(from=attack)+badword", False),
        ("adaptive+badword", False),
        ("adaptive+embedding-poisoning", True),
        ("embedding-surgery", True),
    ],
)
def test_what_reads_the_clean_model_waits_for_it(world: Path, attack: str, waits: bool) -> None:
    jobs = [job for job in plan(world, attack).jobs if job.kind == "victim" and not job.payload.is_clean_model]
    assert [bool(job.needs) for job in jobs] == [waits]


def test_hooks_reach_training_and_know_its_length() -> None:
    seen: dict[str, Any] = {}

    def fit(classifier: Any, data: Any, **options: Any) -> dict[str, Any]:
        seen.update(options)
        return {}

    def hooks(classifier: Any, steps: int) -> Hooks:
        seen["steps"] = steps
        return Hooks(lambda batch, logits, model: 3.0)

    changed = hooked(replace(scene(examples(70)), fit=fit), hooks)
    changed.fit(changed.pretrained(), changed.train, extra_loss=lambda batch, logits, model: 4.0, epochs=2)
    assert seen["extra_loss"](None, None, None) == 7.0
    assert seen["after_step"] is None
    assert seen["steps"] == 2 * 3
    assert changed.hooks(changed.pretrained(), 5).extra_loss is not None
    assert seen["steps"] == 5


def test_the_length_of_a_training_follows_its_options() -> None:
    made = scene(examples(70))
    size = made.budget.batch_size
    assert steps_of(made, 70, {}) == made.budget.epochs * -(-70 // size)
    assert steps_of(made, 70, {"epochs": 2, "batch_size": 20}) == 8
    assert steps_of(made, 70, {"epochs": None, "steps": 7}) == 7


def test_steps_run_in_order() -> None:
    ran: list[str] = []
    joined = both(Hooks(after_step=lambda m, s: ran.append("a")), Hooks(after_step=lambda m, s: ran.append("b")))
    assert joined.extra_loss is None and joined.after_step is not None
    joined.after_step(None, 0)
    assert ran == ["a", "b"]


def test_modifiers_are_listed_and_described() -> None:
    rows = {row["name"]: row for row in listing.listing("attacks")}
    for name in registry.modifiers.names():
        assert "modifier" in rows[name]["summary"]
        description = catalogue.description(name)
        assert description["kind"] == "modifier"
        assert f"{name}+" in catalogue.in_words(description)
        assert isinstance(modified(name), Modified)
    assert not set(registry.modifiers.names()) & set(registry.attacks.names())
