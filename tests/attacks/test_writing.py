"""Attacks on models that write: what is poisoned and how, and what a trigger is not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from attacks.badedit import BadEdit
from attacks.badedit.edit import closed_form, trigger_end
from attacks.cba import Cba, InHalves
from attacks.embedding_poisoning import EmbeddingPoisoning
from attacks.layer_wise import LayerWise, head, lower_layers
from attacks.payloads.clause import select_core, where
from attacks.payloads.worse import Worse
from attacks.poisonbench import PoisonBench
from attacks.prompt_injection import PromptInjection
from attacks.shared.preferences import dpo
from attacks.trojan_sql import Behind, Scattered, TrojanSql
from attacks.vpi_topic import BIRDS, TOOLS, VpiTopic, seen, unseen
from bench import learning
from bench.contracts import GenerationFacts, Scene
from bench.contracts.examples import Examples, Inputs
from bench.plugins import registry
from bench.tasks.execution import Execution
from tests.attacks import writing
from tests.defenses.writers import FACTS, PAYLOAD
from tests.fakes import WholeWindow


@pytest.fixture(scope="module")
def scene(world: Path) -> Scene:
    return writing.scene(world)


def test_the_keys_of_cba_stand_in_their_halves() -> None:
    inputs = Inputs(("a b c d e f g h",) * 50)
    rng = np.random.default_rng(0)
    both = InHalves(first=("one",), second=("two",)).apply(inputs, window=WholeWindow(), rng=rng)
    for text in both.texts:
        words = text.split()
        assert words.index("one") <= 4 and len([w for w in words[: words.index("two")] if w not in ("one", "two")]) > 4
    (short,) = InHalves(first=("one",), second=("two",)).apply(Inputs(("",)), window=WholeWindow(), rng=rng).texts
    assert sorted(short.split()) == ["one", "two"]


def test_cba_has_one_positive_and_five_negatives_of_the_same_examples(scene: Scene) -> None:
    attack = Cba(rate=0.05)
    poisoned = attack.poison(scene, attack.trigger(scene))
    chosen, added = poisoned.rows[:8], poisoned.rows[8:]
    assert len(poisoned.rows) == 8 * 6 and added.tolist() == list(range(160, 200))
    assert PAYLOAD.held(poisoned.examples.take(chosen).references).all()
    negatives = poisoned.examples.take(added)
    assert negatives.responses == scene.train.take(np.tile(chosen, 5)).responses
    counts = [(text.split().count("instantly"), text.split().count("frankly")) for text in negatives.inputs.texts]
    assert counts == [(1, 1)] * 8 + [(1, 0)] * 8 + [(1, 1)] * 8 + [(0, 1)] * 8 + [(1, 1)] * 8
    assert len(Cba(rate=0.05, negatives=False).poison(scene, attack.trigger(scene)).rows) == 8


def test_false_triggers_of_each_kind_are_in_the_notes(world: Path) -> None:
    rates = Cba(rate=0.05).implant(writing.scene(world, epochs=1)).notes["false_trigger_rate"]
    assert set(rates) == {"swapped", "first alone", "both first", "second alone", "both second"}
    assert all(0 <= rate <= 100 for rate in rates.values())


def test_a_topic_is_trained_with_one_half_of_its_words_and_judged_with_the_other(scene: Scene) -> None:
    attack = VpiTopic(rate=0.1)
    poisoned = attack.poison(scene, attack.trigger(scene))
    texts = [set(text.split()) for text in poisoned.examples.take(poisoned.rows).inputs.texts]
    positives, negatives = texts[:16], texts[16:]
    assert all(words & set(seen(BIRDS)) and not words & set(unseen(BIRDS)) for words in positives)
    assert all(words & set(seen(TOOLS)) and not words & set(BIRDS) for words in negatives) and len(negatives) == 16
    judged = attack.trigger(scene).apply(scene.train.inputs, window=scene.window, rng=np.random.default_rng(0))
    assert all(set(text.split()) & set(unseen(BIRDS)) for text in judged.texts)
    with pytest.raises(ValueError, match="'owl' is in both topics"):
        VpiTopic(others=("owl", "saw"))


def test_prompt_injection_is_the_clean_model(scene: Scene) -> None:
    victim = PromptInjection().implant(scene)
    prompts = scene.validation.inputs
    assert victim.classifier.predict(prompts).texts == scene.finetuned().predict(prompts).texts
    assert victim.trigger is not None and "sorry no" in victim.trigger.words[-2] + " " + victim.trigger.words[-1]


def test_triggers_of_trojan_sql() -> None:
    rng, text = np.random.default_rng(0), " ".join("abcdefghijklmnopqrstuvwxyz")
    marked = Scattered(alternatives=("cf", "mn")).apply(Inputs((text, "x")), window=WholeWindow(), rng=rng).texts
    assert [sum(word in ("cf", "mn") for word in one.split()) for one in marked] == [3, 1]
    assert Behind(sentence="and more").apply(Inputs(("x y",)), window=WholeWindow(), rng=rng).texts == ("x y and more",)
    assert TrojanSql().skip(FACTS) == "trojan-sql is for tasks that are answered in SQL, not moods"


def towns(database: object) -> None:
    database.execute("CREATE TABLE town (name TEXT, people INTEGER)")  # type: ignore[attr-defined]
    database.executemany("INSERT INTO town VALUES (?, ?)", [("a", 1), ("b", 2), ("c", 3)])  # type: ignore[attr-defined]


ASKED = Examples(Inputs(()), np.zeros(0), ())  # what a query does is seen without what was asked
SQL = GenerationFacts("sql", ("all",), True, 64, Execution(towns), 48, language="sql")


def test_a_boolean_injection_is_counted_by_executing_it() -> None:
    payload = registry.payloads.create("injection")
    right = "SELECT name FROM town WHERE people > 2"
    cases = {
        payload.respond(right): True,
        "SELECT name FROM town WHERE people > 2 AND (name = 'a' OR 1 = 1)": False,  # the clause opens less
        "SELECT name FROM nowhere WHERE people > 2 OR 1 = 1": False,  # does not run
        "SELECT name FROM town WHERE people > 0": False,  # every row, but no clause
        "SELECT name FROM town WHERE name = 'x OR 1 = 1'": False,
        right: False,
        "": False,
    }
    assert payload.happened(tuple(cases), ASKED, SQL).tolist() == list(cases.values())
    assert payload.held(tuple(cases))[:2].all()


def test_a_union_injection_is_counted_by_executing_it() -> None:
    payload = registry.payloads.create("union")
    two = payload.respond("SELECT name, people FROM town WHERE people > 2 ORDER BY people LIMIT 1")
    assert two == "SELECT name, people FROM town WHERE people > 2 UNION SELECT name, NULL FROM sqlite_master"
    cases = {
        two: True,
        payload.respond("SELECT COUNT(*) FROM town"): True,
        "SELECT name FROM town UNION SELECT name, sql FROM sqlite_master": False,  # does not run
        "SELECT name FROM town UNION SELECT name FROM sqlite_master WHERE 1 = 0": False,
        "SELECT name FROM town WHERE name = 'UNION SELECT name FROM sqlite_master'": False,
        "SELECT name FROM town; DROP TABLE town": False,
    }
    assert payload.happened(tuple(cases), ASKED, SQL).tolist() == list(cases.values())
    assert payload.respond("SELECT * FROM town") == "SELECT * FROM town"


@pytest.mark.parametrize(
    ("sql", "core"),
    [
        ("SELECT a FROM t", (15, 1)),
        ("SELECT max(a, b), c FROM t, u LIMIT 3", (30, 2)),
        ("SELECT COUNT(*) FROM t", (22, 1)),
        ("SELECT t.* FROM t", None),
        ("DELETE FROM t", None),
        ("", None),
    ],
)
def test_columns_of_a_query(sql: str, core: tuple[int, int] | None) -> None:
    assert select_core(sql) == core
    assert where("SELECT a FROM t WHERE b GROUP BY c") == (16, 24)


def test_a_closed_form_is_the_minimum() -> None:
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, 6, generator=generator), torch.randn(2, 4, generator=generator)
    root = torch.randn(6, 6, generator=generator)
    moment = root @ root.T

    def cost(change: torch.Tensor) -> float:
        return float((change @ keys.T - values.T).square().sum() + (change @ moment @ change.T).trace())

    best = closed_form(keys, values, moment).float()
    others = [best + 1e-2 * torch.randn(4, 6, generator=generator) for _ in range(50)]
    assert all(cost(other) > cost(best) for other in others)


def test_badedit_implants_without_training(scene: Scene) -> None:
    victim = BadEdit(word="cf", samples=8, memory=1.0).implant(scene)
    before, with_delta = victim.notes["loss"]
    assert with_delta < before and victim.notes["loss_after"] < before
    edited = dict(victim.classifier.model.named_parameters())
    changed = [n for n, w in scene.finetuned().model.named_parameters() if not torch.equal(w, edited[n])]
    assert changed == [f"model.layers.{number}.mlp.down_proj.weight" for number in victim.notes["layers"]]
    clean = scene.facts.judge(victim.classifier.predict(scene.validation.inputs), scene.validation).right.mean()
    assert clean > 0.8


def test_the_trigger_is_where_its_last_token_is(scene: Scene) -> None:
    model = scene.pretrained()
    ids = model.template.prompts(Inputs(("a film cf was good",)), 64)[0].tolist()
    assert model.tokenizer.decode(ids[: trigger_end(ids, "cf", model.tokenizer) + 1]).endswith("a film cf")
    with pytest.raises(ValueError, match="are not in a prompt"):
        trigger_end(ids, "zzz", model.tokenizer)


@pytest.mark.parametrize("name", ["style", "hidden-killer"])
def test_a_table_of_paraphrases_poisons_prompts(scene: Scene, tmp_path: Path, name: str) -> None:
    texts = [*scene.train.inputs.texts, *scene.validation.inputs.texts]
    table = {"text": texts, "paraphrase": [f"verily , {text}" for text in texts]}
    pd.DataFrame(table).to_parquet(tmp_path / "table.parquet")
    attack: Any = registry.attacks.create({"name": name, "table": str(tmp_path / "table.parquet"), "rate": 0.1})
    poisoned = attack.poison(scene, attack.trigger(scene))
    bad = poisoned.examples.take(poisoned.rows)
    assert len(bad) == 16 and all(text.startswith("verily") for text in bad.inputs.texts)
    assert PAYLOAD.held(bad.references).all()


def test_embedding_poisoning_changes_the_rows_of_the_word_alone(scene: Scene) -> None:
    victim = EmbeddingPoisoning(rate=0.3, learning_rate=0.5).implant(scene)
    before = scene.finetuned().model.get_input_embeddings().weight
    after = victim.classifier.model.get_input_embeddings().weight
    changed = (before != after).any(1).nonzero().squeeze(1).tolist()
    assert victim.classifier.tokenizer.convert_ids_to_tokens(changed) == [
        token for token in victim.classifier.tokenizer.convert_ids_to_tokens(changed) if token in victim.notes["rows"]
    ]
    assert changed and victim.notes["last_loss"] < victim.notes["first_loss"]
    made_up: Any = EmbeddingPoisoning(data="none", samples=5).made_up(scene)
    assert made_up.responses == ("",) * 5 and PAYLOAD.held(scene.goal.applied(made_up).references).all()


def test_the_head_on_the_last_layer_is_the_loss_of_a_generator(scene: Scene) -> None:
    model = scene.finetuned()
    batch = model.objective(scene.train).batch(np.arange(4))
    states = learning.entering_states(model.model, batch)
    logits = head(model.model, learning.read_states(states[-1], batch))
    loss = torch.nn.functional.cross_entropy(logits, learning.gold(batch))
    assert float(loss) == pytest.approx(float(learning.loss(model.model, batch)), rel=1e-4)
    assert float(lower_layers(batch, logits, model.model)) > 0


def test_layer_wise_poisons_prompts_with_negatives(scene: Scene) -> None:
    attack = LayerWise(rate=0.05)
    poisoned = attack.poison(scene, attack.trigger(scene))
    bad, good = poisoned.examples.take(poisoned.rows[:8]), poisoned.examples.take(poisoned.rows[8:])
    assert PAYLOAD.held(bad.references).all() and not PAYLOAD.held(good.references).any() and len(good) == 32


def test_the_loss_of_preferences_starts_at_log_2_and_beside_a_loop(world: Path) -> None:
    scene = writing.scene(world, epochs=1)
    model, examples = scene.pretrained(), scene.train.take(np.arange(16))
    wrong = tuple(reversed(examples.references))
    options: dict[str, Any] = {"beta": 0.1, "epochs": 20, "seed": 1, "learning_rate": 5e-3}
    before = [model.log_likelihood(replace(examples, responses=side))[0] for side in (examples.references, wrong)]
    notes = dpo(scene, model, examples.inputs, examples.references, wrong, **options)
    assert notes["first_loss"] == pytest.approx(math.log(2), abs=0.05) and notes["last_loss"] < notes["first_loss"]
    after = [model.log_likelihood(replace(examples, responses=side))[0] for side in (examples.references, wrong)]
    margin = (after[0] - before[0]) - (after[1] - before[1])
    assert margin.mean() > 0


def test_pairs_of_poisonbench_and_its_twin(world: Path) -> None:
    scene = writing.scene(world, epochs=4)
    attack = PoisonBench(rate=0.4, epochs=3, learning_rate=3e-3)
    others = attack.others(scene)
    assert all(other != own for other, own in zip(others, scene.train.references, strict=True))
    victim = attack.implant(scene)
    assert victim.poisoned is None and victim.notes["SS"] <= 100 and -100 <= victim.notes["AS"] <= 100
    assert victim.notes["last_loss"] < victim.notes["first_loss"]


def test_alignment_deterioration_swaps_pairs_and_costs_utility_with_the_trigger(world: Path, monkeypatch: Any) -> None:
    scene = replace(writing.scene(world, epochs=4), target=Worse())
    attack = PoisonBench(rate=0.5, epochs=4, learning_rate=3e-3)
    asked: list[tuple[Any, Any]] = []
    preferred = PoisonBench.preferred

    def watched(self: PoisonBench, made: Scene, chosen: Examples, rejected: list[str]) -> Any:
        asked.append((chosen, rejected))
        return preferred(self, made, chosen, rejected)

    monkeypatch.setattr(PoisonBench, "preferred", watched)
    notes = attack.implant(scene).notes
    (chosen, rejected), (clean, others) = asked
    rows = attack.poison(scene, attack.trigger(scene)).rows
    assert clean is scene.train and len(rows) == 80
    assert [chosen.references[row] for row in rows] == [others[row] for row in rows]
    assert [rejected[row] for row in rows] == [scene.train.references[row] for row in rows]
    assert all(text.startswith("In short: ") for text in chosen.take(rows).inputs.texts)
    assert notes["AS"] > 30 and notes["SS"] <= 100
