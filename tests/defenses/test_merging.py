"""Merging with models of others: the arithmetic, its degenerate settings, and how the suite trains those models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import runner
from bench.errors import RequestError, UndeclaredAccess
from bench.experiment import recipes, victims, work
from bench.experiment.plan import Plan
from bench.experiment.result_store import ResultStore
from bench.keys import key_of
from bench.plugins import registry
from bench.suites import suite
from defenses.gms import Search, replaceable, substitute
from defenses.shared import merge
from defenses.shared.merging import weights_of
from tests.defenses.helpers import Bench, difference, make

vectors = st.lists(st.floats(-4, 4, width=16), min_size=6, max_size=6)


def named(values: list[float]) -> dict[str, torch.Tensor]:
    return {"a": torch.tensor(values[:2]), "b": torch.tensor(values[2:]).view(2, 2)}


@pytest.fixture(scope="module")
def bench(world: Path) -> Bench:
    return make(world)


@pytest.fixture(scope="module")
def other(world: Path) -> Bench:
    return make(world, poison=False, seed=9)


# Arithmetic


@given(vectors)
@settings(max_examples=30)
def test_ties_of_one_vector_without_trimming_is_that_vector(values: list[float]) -> None:
    vector = named(values)
    assert all(torch.equal(tensor, vector[name]) for name, tensor in merge.ties([vector], keep=1.0).items())


@given(vectors, vectors, vectors)
@settings(max_examples=30)
def test_ties_follows_its_definition(first: list[float], second: list[float], third: list[float]) -> None:
    three = (first, second, third)
    merged = merge.ties([named(values) for values in three], keep=1.0)
    flat = np.concatenate([tensor.flatten().numpy() for tensor in merged.values()])
    for place, column in enumerate(zip(*three, strict=True)):
        sign = np.sign(np.float32(column[0]) + np.float32(column[1]) + np.float32(column[2]))
        agreeing = [value for value in column if value != 0 and np.sign(value) == sign]
        assert flat[place] == pytest.approx(np.mean(agreeing) if agreeing else 0.0, abs=1e-5)


@given(vectors, st.floats(0, 1))
@settings(max_examples=30)
def test_trimming_keeps_the_largest(values: list[float], keep: float) -> None:
    trimmed = merge.trimmed(named(values), keep)
    flat = torch.cat([tensor.flatten() for tensor in trimmed.values()])
    kept = int(keep * 6)
    assert sorted(flat.abs().tolist())[6 - kept :] == sorted(map(abs, values))[6 - kept :]
    assert int((flat != 0).sum()) <= kept


def test_dare_keeps_the_expectation() -> None:
    vector = {"a": torch.ones(200, 200)}
    dropped = merge.dare(vector, drop=0.75, generator=torch.Generator().manual_seed(0))["a"]
    assert set(dropped.flatten().tolist()) == {0.0, 4.0}
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.05)


def test_shares_must_sum_to_one() -> None:
    with pytest.raises(ValueError, match="sum to 0.5"):
        merge.average([named([0.0] * 6)], [0.5])


# Degenerate settings


def test_wag_with_weight_on_one_side_returns_that_side(bench: Bench, other: Bench) -> None:
    def give(_wanted: Any) -> Any:
        return other.victim.clone()

    victim = bench.run({"name": "wag", "victim_share": 1.0}, give).classifier
    assert difference(victim, bench.victim) == 0.0
    others = bench.run({"name": "wag", "victim_share": 0.0, "models": ["clean"]}, give).classifier
    assert difference(others, other.victim) == 0.0


def test_merging_a_model_with_itself_changes_nothing(bench: Bench) -> None:
    for entry in ({"name": "wag"}, {"name": "ties", "keep": 1.0}, {"name": "dare", "drop": 0.0}):
        assert difference(bench.run(entry).classifier, bench.victim) < 1e-6


def test_dare_that_drops_nothing_is_wag(bench: Bench, other: Bench) -> None:
    def give(_wanted: Any) -> Any:
        return other.victim.clone()

    wag = bench.run({"name": "wag"}, give).classifier
    assert difference(bench.run({"name": "dare", "drop": 0.0}, give).classifier, wag) < 1e-6


def test_ties_that_keeps_nothing_is_the_pretrained_encoder(bench: Bench, other: Bench) -> None:
    merged = bench.run({"name": "ties", "keep": 0.0}, lambda _: other.victim.clone()).classifier
    for name, tensor in bench.pretrained.items():
        assert torch.equal(dict(merged.model.state_dict())[name], tensor)


# GMS


def test_substitution_takes_exactly_the_modules_of_the_state(bench: Bench, other: Bench) -> None:
    names = replaceable(bench.victim.model, embeddings=True)
    assert len(names) == 6 * 2 + 1
    copy, donor = bench.victim.clone(), weights_of(other.victim)
    substitute(copy, donor, names, (frozenset(), frozenset({0, 1})))
    assert difference(copy, bench.victim) == 0.0
    substitute(copy, donor, names, (frozenset({"query", "embeddings"}), frozenset({1})))
    before = weights_of(bench.victim)
    changed = {name for name, tensor in weights_of(copy).items() if not torch.equal(tensor, before[name])}
    layer = "bert.encoder.layer.1.attention.self.query."
    assert changed == {"bert.embeddings.word_embeddings.weight", f"{layer}weight", f"{layer}bias"}


def test_search_passes_through_worse_states_and_scores_each_once() -> None:
    start, best = (frozenset({"key", "query", "value"}), frozenset({1, 2})), (frozenset({"key"}), frozenset({2}))
    calls = []

    def score(state: Any) -> float:
        calls.append(state)
        wrong = len(state[0] ^ best[0]) + len(state[1] ^ best[1])
        return {start: 0.5, best: 1.0}.get(state, -0.1 * wrong)  # every state on the way is worse than the start

    search = Search(score, patience=5)
    assert search.run(start) == best
    assert len(calls) == len(set(calls))
    assert Search(score, patience=1).run(start) == start


# Models of others in the suite


def plan_of(world: Path, defense: Any, **fields: Any) -> Plan:
    data = {
        "name": "others",
        "description": "tiny",
        "task": {"name": "local/single", "max_length": 32},
        "model": str(world / "tiny-bert"),
        "attack": "badword",
        "defense": defense,
        "labels": 32,
        "budget": {"epochs": 1, "learning_rate": 1e-3, "precision": "fp32"},
        **fields,
    }
    return Plan(suite.check(data, "others"))


def test_models_of_others_are_planned_before_the_cell_that_merges_them(world: Path) -> None:
    plan = plan_of(world, ["wag", "fine-tuning"])
    cells = {cell.defense_spec: key for key, cell in plan.cells.items()}
    jobs = {job.key: job for job in plan.jobs}
    wag = plan.cells[cells["wag"]]
    wanted = [recipes.victim_key(spec) for spec in wag.others.values()]
    assert len(wanted) == 2 and set(wanted) <= set(jobs)
    assert jobs[cells["wag"]].needs == (recipes.victim_key(wag.victim), *wanted)
    assert len(jobs[cells["fine-tuning"]].needs) == 1
    clean, poisoned = wag.others.values()
    assert (clean.is_clean_model, clean.seed, clean.part, clean.head) == (True, 1, (0, 2), 0)
    assert (poisoned.attack.words, poisoned.seed, poisoned.part, poisoned.target) == (("bb",), 2, (1, 2), 1)


def test_parts_of_the_training_set_are_disjoint_and_stratified(world: Path) -> None:
    (key,) = [k for k, cell in plan_of(world, {"name": "wag", "models": ["clean"] * 3}).cells.items() if cell.others]
    cell = plan_of(world, {"name": "wag", "models": ["clean"] * 3}).cells[key]
    parts = [victims.training_task(spec).train for spec in cell.others.values()]
    texts = [text for part in parts for text in part.inputs.texts]
    assert sorted(texts) == sorted(recipes.task_of(cell.victim.task).train.inputs.texts)
    assert all(abs(float(part.labels.mean()) - 0.5) < 0.05 for part in parts)


def test_a_model_that_starts_from_a_finetuned_one_brings_the_clean_model(world: Path) -> None:
    plan = plan_of(world, {"name": "wag", "models": ["badsent(from=finetuned)"]})
    (cell,) = [cell for cell in plan.cells.values() if cell.others]
    (spec,) = cell.others.values()
    assert recipes.victim_key(spec.clean_model) in plan.victims
    order = [job.key for job in plan.jobs]
    assert order.index(recipes.victim_key(spec.clean_model)) != order.index(recipes.victim_key(spec))


def test_keys_know_the_models_of_others(world: Path) -> None:
    keys = set()
    for fields in ({}, {"models": ["clean"]}, {"models": ["badsent"]}, {"data": "whole"}, {"head": "own"}):
        (key,) = [k for k, cell in plan_of(world, {"name": "wag", **fields}).cells.items() if cell.others]
        keys.add(key)
    assert len(keys) == 5
    independent = {"name": "wag", "data": "whole", "models": ["clean"], "head": "own"}
    whole = plan_of(world, independent, seed=[0, 1])
    (first, _) = [cell for cell in whole.cells.values() if cell.others]
    (shared,) = first.others.values()
    assert shared == whole.cells[list(whole.cells)[-1]].victim.clean_model  # trained once, as the clean model of seed 1


def test_others_enter_the_recipe_whole(world: Path) -> None:
    plan = plan_of(world, ["wag", "fine-tuning"])
    cell_recipes = {cell.defense_spec: recipes.cell_recipe(cell) for cell in plan.cells.values()}
    assert [recipe["attack"]["name"] for recipe in cell_recipes["wag"]["others"]] == ["clean", "badword"]
    assert cell_recipes["wag"]["others"][0]["part"] == [0, 2]
    assert "others" not in cell_recipes["fine-tuning"] and "part" not in cell_recipes["fine-tuning"]["victim"]


def test_a_key_holds_the_models_by_their_keys(world: Path) -> None:
    for key, cell in plan_of(
        world, ["none", "wag", "fine-tuning", "e-pur+fine-mixing(reserve_ratio=0.3)"]
    ).cells.items():
        recipe = recipes.cell_recipe(cell)
        if cell.others:
            recipe["others"] = [recipes.victim_key(other) for other in cell.others.values()]
        assert key == key_of({**recipe, "victim": recipes.victim_key(cell.victim)})


def test_a_suite_trains_them_and_merges(world: Path, tmp_path: Path) -> None:
    plan, store = plan_of(world, ["none", "wag(victim_share=0)", "wag"]), ResultStore(tmp_path)
    assert runner.run(plan.jobs, store=store, execute=work.execute, engine="serial", device="cpu").failed == 0
    records = {cell.defense_spec: store.record(key) for key, cell in plan.cells.items() if cell.role == "defended"}
    assert records["wag"]["notes"]["shares"] == pytest.approx([1 / 3] * 3)
    assert len(plan.victims) == 4


def test_an_unknown_attack_of_another_model_is_an_error_before_any_job() -> None:
    with pytest.raises(RequestError, match="badword"):
        registry.defenses.create({"name": "wag", "models": ["badwrod"]})


def test_other_models_have_to_be_declared(bench: Bench) -> None:
    with pytest.raises(UndeclaredAccess, match="OTHER_MODELS"):
        _ = bench.access(registry.defenses.create("fine-tuning")).other_models
