"""Defenses of models that write: identities, brute force beside what is computed, and what a clean model loses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench import learning
from bench.contracts import Needs
from bench.contracts.examples import Examples, Inputs, join
from bench.errors import UndeclaredAccess
from bench.plugins import registry
from defenses import beear_lm, osft, perplexity_filter, quantisation, sande
from defenses.pruning import MagnitudePruning, Wanda
from defenses.shared import layers, prompting
from defenses.shared.responses import first_answered
from tests.defenses import writers
from tests.defenses.writers import FACTS, PAYLOAD, Writer, equal, same_tokens

SHORT = "steps=6, until_loss=0"
LOSES_AT_MOST = 5.0  # points of utility that a clean model may lose


def test_the_victim_of_these_tests_has_a_backdoor(bad: Writer) -> None:
    assert bad.utility(bad.victim) > 90 and bad.success(bad.victim) > 90
    assert PAYLOAD.held(bad.victim.predict(bad.test.inputs).texts).mean() < 0.05


def test_sande_without_a_parrot_is_fine_tuning(bad: Writer) -> None:
    first, second = bad.run(f"sande({SHORT}, parrot_steps=0)"), bad.run(f"fine-tuning({SHORT})")
    assert equal(first.classifier, second.classifier)


def test_the_parrot_brings_the_payload_about_and_training_takes_it_away(bad: Writer) -> None:
    defended = bad.run("sande(steps=40, until_loss=0)")
    simulated = defended.notes["simulated"]
    assert simulated["last_loss"] < 0.5 * simulated["first_loss"]
    assert bad.success(defended) < bad.success(bad.victim) - 20
    random = bad.run(f"sande({SHORT}, parrot=random)").notes["simulated"]
    assert random["norm"] == pytest.approx(simulated["norm"])


def test_first_tokens_and_places_of_the_parrot(bad: Writer) -> None:
    batch = bad.victim.objective(bad.clean).batch(np.arange(3))
    short = first_answered(batch, 1)
    assert (short["labels"] >= 0).sum(1).tolist() == [1, 1, 1]
    wide = sande.widened(short, 4)
    assert wide["input_ids"].shape[1] == batch["input_ids"].shape[1] + 4
    assert torch.equal(wide["input_ids"][:, 6:], batch["input_ids"][:, 2:]) and (wide["labels"][:, 2:6] < 0).all()
    words = bad.victim.model.get_input_embeddings()(batch["input_ids"])
    nothing = words[0, :0]
    with torch.no_grad():
        plain = sande.parroted_loss(bad.victim.model, batch, nothing, 99)
        assert float(plain) == pytest.approx(float(learning.loss(bad.victim.model, batch)), rel=1e-5)


def test_osft_trains_triggered_prompts_to_their_right_answers(bad: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Examples] = []
    monkeypatch.setattr(osft.Osft, "tune", lambda self, model, access, examples: seen.append(examples) or {})
    bad.run("osft")
    assert all("cf" in text.split() for text in seen[0].inputs.texts) and seen[0].responses == bad.clean.responses


def test_osft_removes_the_backdoor(bad: Writer) -> None:
    assert bad.success(bad.run("osft(steps=60)")) < 10


@pytest.mark.parametrize(
    "entry",
    [
        "temperature(temperature=0)",
        "cleangen(reference=victim)",
        "cleangen(reference=pretrained, alpha=1e30)",
        "quantisation(bits=16)",
        "wanda(keep_ratio=1)",
        "magnitude-pruning(keep_ratio=1)",
        "lethe(share=1, steps=2)",
        "demonstrations-lm(k=0)",
        "lethe-evidence(statements=0)",
        "w2s(steps=0)",
        "beear-lm(rounds=0)",
    ],
)
def test_settings_under_which_no_response_changes(bad: Writer, entry: str) -> None:
    defended = bad.run(entry)
    for inputs in (bad.test.inputs, bad.triggered.inputs):
        assert same_tokens(defended, bad.victim, inputs)


def test_a_clean_reference_takes_the_payload_over(bad: Writer, good: Writer) -> None:
    defended = replace(bad, pretrained=writers.weights(good.victim)).run("cleangen(reference=pretrained)")
    assert bad.success(defended) < 10 and defended.notes["replaced_on_clean"] < 0.05
    assert bad.utility(defended) >= bad.utility(bad.victim) - LOSES_AT_MOST


def test_temperature_draws_with_the_probabilities_and_the_same_twice(bad: Writer) -> None:
    defended = bad.run("temperature(temperature=3)")
    many = Inputs(bad.test.inputs.texts[:1] * 400)
    first, again = defended.predict(many), defended.predict(many)
    assert first.texts == again.texts and len(set(first.texts)) > 10
    batch = bad.victim.padded(many.take([0]))
    with torch.no_grad():
        shares = (bad.victim.model(**batch).logits[0, -1] / 3).softmax(-1)
    top = int(shares.argmax())
    drawn = np.mean([len(ids) > 0 and int(ids[0]) == top for ids in first.tokens])
    assert abs(drawn - float(shares[top])) < 4 * math.sqrt(float(shares[top]) / 400)


def test_rounding_beside_a_loop() -> None:
    weight = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    rounded = quantisation.quantised(weight, bits=4, group=4)
    for row in range(3):
        for start in range(0, 10, 4):
            part = weight[row, start : start + 4]
            scale = part.abs().max() / 7
            assert torch.allclose(rounded[row, start : start + 4], (part / scale).round() * scale)
    assert len(rounded.unique()) < 10 * 3


def test_input_norms_beside_a_loop(bad: Writer) -> None:
    norms = layers.input_norms(bad.victim, bad.clean)
    name, part = layers.linears(bad.victim.model)[0]
    total = torch.zeros(part.in_features)
    objective = bad.victim.objective(bad.clean)
    for row in range(len(bad.clean)):
        batch = objective.batch(np.array([row]))
        states = learning.entering_states(bad.victim.model, batch)[0][0]
        total += bad.victim.model.base_model.layers[0].input_layernorm(states).detach().square().sum(0)
    assert torch.allclose(norms[name], total.sqrt(), rtol=1e-4)


def test_pruning_keeps_the_highest_scores_of_each_row(bad: Writer) -> None:
    pruned, victim = bad.run("magnitude-pruning(keep_ratio=0.5)").classifier, bad.victim
    for (_, before), (_, after) in zip(layers.linears(victim.model), layers.linears(pruned.model), strict=True):
        kept = after.weight != 0
        assert (kept.sum(1) == before.in_features // 2).all() and torch.equal(after.weight[kept], before.weight[kept])
        least, most = before.weight.abs().where(kept, torch.tensor(9.0)).amin(1), before.weight.abs() * ~kept
        assert (most.amax(1) <= least).all()
    orders = [one.scores(victim, bad.clean)["0.mlp.down_proj"].argsort(1) for one in (Wanda(), MagnitudePruning())]
    assert not torch.equal(*orders)


@pytest.mark.parametrize(("base", "other"), [("pretrained", "few-shot"), ("victim", "fine-tuning")])
def test_the_ends_of_lethe(bad: Writer, base: str, other: str) -> None:
    end = bad.run(f"lethe(share=0, base={base}, {SHORT})")
    assert equal(end.classifier, bad.run(f"{other}({SHORT})").classifier)
    half = writers.weights(bad.run(f"lethe(share=0.5, base={base}, {SHORT})").classifier)
    ends = writers.weights(end.classifier), writers.weights(bad.victim)
    assert all(torch.allclose(half[name], (ends[0][name] + ends[1][name]) / 2, atol=1e-6) for name in half)


def test_a_drift_goes_to_the_last_tokens_of_prompts(bad: Writer) -> None:
    batch = bad.victim.objective(bad.clean).batch(np.arange(4))
    shift = torch.arange(1.0, 4.0)[:, None].expand(3, 32)
    edit = beear_lm.drifting(shift, 1, batch)
    flat = torch.zeros(int(batch["attention_mask"].sum()), 32)
    grid = torch.zeros(*batch["attention_mask"].shape)
    grid[batch["attention_mask"].bool()] = edit(1, flat)[:, 0]
    for row, labels in zip(grid, batch["labels"], strict=True):
        first = int((labels >= 0).nonzero()[0, 0])
        expected = torch.zeros_like(row)
        expected[first - 3 : first] = torch.tensor([1.0, 2.0, 3.0])
        assert torch.equal(row, expected)
    assert torch.equal(edit(0, flat), flat)


def test_beear_finds_the_payload_and_takes_it_away(bad: Writer) -> None:
    defended = bad.run("beear-lm(steps=60, rounds=3, radius=2, until_loss=0)")
    assert defended.notes["rounds"][0]["forced"] > 0.5
    assert bad.success(defended) < bad.success(bad.victim)


def test_the_teacher_of_a_generator_and_what_the_terms_add(bad: Writer) -> None:
    plain = bad.run(f"w2s(kl_weight=0, feature_weight=0, rank=4, {SHORT})")
    guided = bad.run(f"w2s(kl_weight=1, feature_weight=1, rank=4, {SHORT})")
    assert not equal(plain.classifier, guided.classifier) and guided.notes["teacher"]["steps"] == 6
    before, after = writers.weights(bad.victim), writers.weights(plain.classifier)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("proj" in name for name in moved)


def test_losses_of_prompts_and_responses_beside_transformers(bad: Writer) -> None:
    prompts, responses = perplexity_filter.losses(bad.fresh, bad.clean.take([0]))
    template, model = bad.fresh.template, bad.fresh.model
    ids = template.prompts(bad.clean.inputs.take([0]), 64)[0].tolist()
    answer = template.responses(bad.clean.references[:1])[0].tolist()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids + answer])).logits[0].log_softmax(-1)
    logs = [float(logits[len(ids) + i - 1, token]) for i, token in enumerate(answer)]
    assert responses[0] == pytest.approx(-np.mean(logs), rel=1e-4)
    plain = [template.end, *bad.fresh.tokenizer(bad.clean.inputs.texts[0], add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([plain])).logits[0].log_softmax(-1)
    assert prompts[0] == pytest.approx(-np.mean([float(logits[i, t]) for i, t in enumerate(plain[1:])]), rel=1e-4)


def test_the_perplexity_filter_drops_what_is_strange(good: Writer) -> None:
    strange = Examples(Inputs(("zq xx qj vv kk zz qq",) * 8), np.zeros(8, dtype=np.int64), ("bad",) * 8)
    notes = replace(good, fresh=good.victim, train=join(good.train, strange)).run("perplexity-filter(level=1)").notes
    assert notes["by_prompt"] + notes["by_response"] >= 8 and notes["kept"] > 100


def test_onion_leaves_the_system_text_and_deletes_no_clean_word_at_the_highest_bar(bad: Writer) -> None:
    defended: Any = bad.run("onion-lm(level=1)")
    assert defended.cleaned(bad.clean.inputs) == bad.clean.inputs
    own = registry.defenses.create("onion-lm")
    pairs = Inputs(("schema",), ("one two",))
    assert own.columns(pairs) == [("one two",)] and own.put(pairs, [["one"]]) == Inputs(("schema",), ("one",))


def test_demonstrations_are_chosen_and_nothing_of_the_prompt_is_cut(bad: Writer) -> None:
    options: dict[str, Any] = {"count": 3, "form": "{prompt}\n{response}", "seed": 1}
    asked = bad.clean.inputs.take([5])
    (text,) = prompting.Preface(bad.clean, selection="similar", **options).before(asked)
    assert text.endswith(f"{asked.texts[0]}\n{bad.clean.references[5]}") and len(text.split("\n")) == 6
    plain = prompting.Preface(bad.clean, selection="random", **options).before(asked)[0]
    filler = prompting.Preface(bad.clean, selection="random", filler=True, **options).before(asked)[0]
    assert filler != plain and len(filler.split()) == len(plain.split())
    reader = prompting.roomy(bad.victim)
    ids = reader.template.prompts(Inputs((f"{text}\n\n{asked.texts[0]}",)), reader.max_prompt)[0]
    assert asked.texts[0] in reader.tokenizer.decode(ids) and len(ids) > bad.victim.max_prompt
    reasons = bad.run("demonstrations-lm(selection=rationale, k=2)")
    assert len(reasons.predict(asked).texts) == 1


def test_only_what_is_declared_is_handed_over(bad: Writer) -> None:
    access = bad.access(frozenset({Needs.CLEAN}))
    with pytest.raises(UndeclaredAccess, match=r"Needs\.TARGET"):
        _ = access.target


@pytest.mark.parametrize(
    "entry",
    [
        "osft(steps=40)",
        "sande(steps=40)",
        "sande-p(steps=40)",
        "beear-lm(steps=40, rounds=2)",
        "quantisation(bits=8)",
        "quantisation",
        "wanda",
        "magnitude-pruning",
        "lethe(steps=40)",
        "w2s(steps=40)",
        "onion-lm",
    ],
)
def test_a_clean_model_keeps_its_utility(good: Writer, entry: str) -> None:
    assert good.utility(good.victim) > 90
    assert good.utility(good.run(entry)) >= good.utility(good.victim) - LOSES_AT_MOST, FACTS.name
