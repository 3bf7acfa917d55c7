"""Weight purification: parameter settings at which a method is a known simpler one, and what each step does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import learning
from bench.contracts import Needs
from bench.plugins import registry
from defenses.anp.masks import Masks, fold, masked_weights
from defenses.beear import Beear, drifted
from defenses.shared import adapters, encoder, losses
from defenses.shared.tuning import Tuning
from tests.defenses.helpers import Bench, difference, make

SHORT = {"steps": 6, "until_loss": 0.0, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def bench(world: Path) -> Bench:
    return make(world)


@pytest.fixture(scope="module")
def tuned(bench: Bench) -> Any:
    return bench.run({"name": "fine-tuning", **SHORT}).classifier


SAME_AS_FINE_TUNING = [
    {"name": "fine-purifying", "reserve_ratio": 1.0},
    {"name": "nad", "beta": 0.0},
    {"name": "meft", "entropy_passes": 0},
    {"name": "crow", "weight": 0.0},
    {"name": "mbtsad", "beta": 0.0, "states_weight": 0.0},
    {"name": "pure", "keep_ratio": 1.0, "weight": 0.0},
    {"name": "w2s", "rank": None, "kl_weight": 0.0, "feature_weight": 0.0},
    {"name": "conflict-merging", "start": "victim", "victim_share": 0.0},
]


def answers_apart(bench: Bench, first: Any, second: Any) -> float:
    """Return the largest difference of logits. Weights without influence, such as a key's bias, may differ."""
    inputs = bench.task.test.inputs
    return float(np.abs(first.logits(inputs) - second.logits(inputs)).max())


@pytest.mark.parametrize("entry", SAME_AS_FINE_TUNING, ids=lambda entry: str(entry["name"]))
def test_without_its_idea_a_method_is_fine_tuning_up_to_rounding(
    bench: Bench, tuned: Any, entry: dict[str, Any]
) -> None:
    assert answers_apart(bench, bench.run({**entry, **SHORT}).classifier, tuned) < 1e-3


def test_sam_with_radius_0_is_fine_tuning(world: Path) -> None:
    still = make(world, dropout=False)  # its second pass draws other numbers, so dropout is off
    plain = still.run({"name": "fine-tuning", **SHORT}).classifier
    for adaptive in (True, False):
        same = still.run({"name": "sam", "rho": 0.0, "adaptive": adaptive, **SHORT}).classifier
        assert answers_apart(still, same, plain) < 1e-3
    assert answers_apart(still, still.run({"name": "sam", "rho": 2.0, **SHORT}).classifier, plain) > 1e-2


def test_one_round_of_beear_without_weight_is_fine_tuning(bench: Bench) -> None:
    from bench import seeds

    purified = bench.run({"name": "beear", "rounds": 1, "weight": 0.0, "inner_steps": 1, **SHORT}).classifier
    plain = bench.victim.clone()
    seed = seeds.derive("removal", 5, 0)
    learning.train(plain, bench.clean, batch_size=16, seed=seed, precision="fp32", **SHORT)
    assert answers_apart(bench, purified, plain) < 1e-3


def test_one_cycle_of_super_fine_tuning_is_tuning_with_a_triangle(bench: Bench) -> None:
    entry = {"name": "super-fine-tuning", "high_cycles": 0, "low_cycles": 1, **SHORT}
    plain = bench.victim.clone()
    learning.train(plain, bench.clean, batch_size=16, seed=5, warmup=0.5, precision="fp32", **SHORT)
    assert difference(bench.run(entry).classifier, plain) == 0.0


def test_few_shot_is_fine_mixing_that_keeps_nothing(bench: Bench) -> None:
    mixed = bench.run({"name": "fine-mixing", "reserve_ratio": 0.0, "head": "reinitialise", **SHORT}).classifier
    fresh = bench.run({"name": "few-shot", **SHORT}).classifier
    assert difference(fresh, mixed) == 0.0


def test_few_shot_does_not_depend_on_the_victim(bench: Bench) -> None:
    other = make_other(bench)
    access = bench.access(registry.defenses.create({"name": "few-shot", **SHORT}))
    a = registry.defenses.create({"name": "few-shot", **SHORT}).defend(other, access).classifier
    assert difference(a, bench.run({"name": "few-shot", **SHORT}).classifier) == 0.0


def make_other(bench: Bench) -> Any:
    other = bench.victim.clone()
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(1.0)
    return other


def test_head_reset_is_fine_mixing_that_keeps_all_but_the_head(bench: Bench) -> None:
    mixed = bench.run({"name": "fine-mixing", "reserve_ratio": 1.0, "head": "reinitialise", **SHORT}).classifier
    assert difference(bench.run({"name": "head-reset", **SHORT}).classifier, mixed) == 0.0
    probed = bench.run({"name": "head-reset", "tunes": "head", **SHORT}).classifier
    moved = {
        name
        for name, parameter in probed.model.named_parameters()
        if (parameter != dict(bench.victim.model.named_parameters())[name]).any()
    }
    assert moved == {"classifier.weight", "classifier.bias"}


# Fine-purifying


def test_fine_purifying_resets_a_drifted_word_that_clean_text_lacks_first(bench: Bench) -> None:
    marked = bench.victim.clone()
    word = marked.tokenizer.convert_tokens_to_ids("mb")
    table = marked.model.get_input_embeddings().weight
    with torch.no_grad():
        table[word] += 0.5
    name = "bert.embeddings.word_embeddings.weight"
    defense = registry.defenses.create({"name": "fine-purifying", "reserve_ratio": 0.9, "steps": 0})
    purified = dict(defense.defend(marked.clone(), bench.access(defense)).classifier.model.named_parameters())
    assert (purified[name][word] == bench.pretrained[name][word]).all()


def inputs_of(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a batch as transformers' own pass takes it."""
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


def test_fisher_is_the_mean_squared_gradient_of_single_examples(bench: Bench) -> None:
    fisher = encoder.fisher(bench.victim, bench.clean)
    model = bench.victim.model.eval()
    weight = model.classifier.weight
    total = torch.zeros_like(weight)
    for batch in encoder.batches(bench.victim, bench.clean, 1):
        loss = torch.nn.functional.cross_entropy(model(**inputs_of(batch)).logits, batch["labels"])
        total += torch.autograd.grad(loss, weight)[0] ** 2
    torch.testing.assert_close(fisher["classifier.weight"], total / len(bench.clean))
    used = bench.victim.tokenizer(list(bench.clean.inputs.texts))["input_ids"]
    unused = sorted(set(range(len(bench.victim.tokenizer))) - {token for row in used for token in row})
    assert (fisher["bert.embeddings.word_embeddings.weight"][unused] == 0).all()


# Losses


def test_attention_distance_is_zero_for_the_same_model_and_ignores_padding(bench: Bench) -> None:
    (batch,) = encoder.batches(bench.victim, bench.clean, 64)
    model = bench.victim.model.eval()
    loss = losses.attention_distillation(model, weight=1.0, states_weight=1.0)
    assert float(loss(batch, torch.zeros(0), model).detach()) == pytest.approx(0.0, abs=1e-6)
    extra = {name: torch.nn.functional.pad(tensor, (0, 3)) for name, tensor in batch.items() if name != "labels"}
    other = bench.victim.clone().model.eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    loss = losses.attention_distillation(other, weight=1.0, states_weight=0.1)
    padded = loss({**extra, "labels": batch["labels"]}, torch.zeros(0), model)
    plain = loss(batch, torch.zeros(0), model)
    torch.testing.assert_close(padded, plain, rtol=1e-4, atol=1e-5)
    assert float(plain.detach()) > 0


def test_teacher_and_student_read_the_same_tokens_while_training(bench: Bench) -> None:
    """A teacher that is the student's twin is at distance 0 from it before the first step, dropout aside."""
    still = bench.victim.clone()
    for module in still.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    distil = losses.attention_distillation(still.clone().model, weight=1.0)
    seen = []

    def spy(batch: Any, logits: torch.Tensor, model: Any) -> torch.Tensor:
        torch.testing.assert_close(model(**inputs_of(batch)).logits, logits, rtol=1e-4, atol=1e-4)
        seen.append(float(distil(batch, logits, model).detach()))
        return logits.sum() * 0

    options: dict[str, Any] = {"learning_rate": 1e-12, "batch_size": 16, "seed": 1, "precision": "fp32"}
    learning.train(still, bench.clean, epochs=1, extra_loss=spy, **options)
    assert max(seen) < 1e-4


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=5))
@settings(max_examples=30)
def test_negative_entropy_is_least_where_nothing_is_decided(row: list[float]) -> None:
    value = float(losses.negative_entropy(torch.tensor([row])))
    assert -math.log(len(row)) - 1e-5 <= value <= 1e-6
    assert float(losses.negative_entropy(torch.zeros(1, len(row)))) == pytest.approx(-math.log(len(row)), abs=1e-5)


def test_meft_reaches_indecision_before_it_tunes(bench: Bench) -> None:
    entry = {"name": "meft", "entropy_passes": 40, "certainty": 0.95, "steps": 0, "learning_rate": 1e-3}
    result = bench.run(entry)
    assert result.notes["entropies"][-1] >= 0.95
    assert len(result.notes["entropies"]) < 40


def test_crow_lowers_the_inconsistency_it_trains_on(bench: Bench) -> None:
    (batch,) = encoder.batches(bench.victim, bench.clean, 64)
    loss = losses.adversarial_inconsistency(weight=1.0, epsilon=1.0)
    value = {
        weight: float(loss(batch, torch.zeros(0), bench.run(entry).classifier.model).detach())
        for weight in (0.0, 20.0)
        for entry in [{"name": "crow", "weight": weight, "steps": 18, "until_loss": 0.0, "learning_rate": 1e-3}]
    }
    assert value[20.0] < 0.9 * value[0.0]


def test_perturbation_raises_the_inconsistency(bench: Bench) -> None:
    (batch,) = encoder.batches(bench.victim, bench.clean, 64)
    model = bench.victim.model.eval()
    size = [losses.adversarial_inconsistency(weight=1.0, epsilon=e)(batch, torch.zeros(0), model) for e in (0.0, 0.2)]
    assert float(size[1].detach()) > float(size[0].detach())


# Token splitting


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=1, max_size=8), min_size=1, max_size=8))
@settings(max_examples=50)
def test_split_words_keep_their_letters(words: list[str]) -> None:
    from defenses.mbtsad import split_words

    text = " ".join(words)
    rng = np.random.default_rng(0)
    assert split_words(text, 0.0, rng).split() == text.split()
    everything = split_words(text, 1.0, rng)
    assert everything.replace(" ", "") == text.replace(" ", "")
    assert len(everything.split()) == sum(2 if len(word) > 1 else 1 for word in text.split())


# Masks, pruning, adapters


def test_folding_a_mask_equals_applying_it(bench: Bench) -> None:
    (batch,) = encoder.batches(bench.victim, bench.clean, 64)
    model = bench.victim.clone().model.eval()
    generator = torch.Generator().manual_seed(0)
    kept = Masks.full(model, 1.0).each(lambda tensor: torch.rand(tensor.shape, generator=generator) > 0.4)
    with torch.no_grad():
        masked = encoder.logits_at(model, masked_weights(model, kept.each(lambda tensor: tensor.float())), batch)
        before = model(**inputs_of(batch)).logits
        fold(model, kept)
        folded = model(**inputs_of(batch)).logits
    torch.testing.assert_close(folded, masked, rtol=1e-4, atol=1e-5)
    assert (folded - before).abs().max() > 1e-3


def test_anp_that_cuts_nothing_returns_the_victim(bench: Bench) -> None:
    pruned = bench.run({"name": "anp", "steps": 2, "cut": 0.0})
    assert difference(pruned.classifier, bench.victim) == 0.0
    assert pruned.notes["mean_mask"] <= 1.0


def test_anp_prunes_more_with_a_larger_cut_and_takes_the_largest_that_passes(bench: Bench) -> None:
    none, some, all_that_moved = (
        bench.run({"name": "anp", "steps": 4, "cut": cut}).notes["units_pruned"] for cut in (0.0, 0.5, 1.0)
    )
    assert 0 == none <= some <= all_that_moved != 0
    notes = bench.run({"name": "anp", "steps": 4}).notes
    assert notes["selection_passed"]
    within = [
        round(1 - one["value"], 2) for one in notes["tried"] if one["fitted_drop"] <= notes["selection_tolerance"]
    ]
    assert notes["cut"] == max(within)


def test_attention_of_the_first_token_is_what_the_model_computes(bench: Bench) -> None:
    (batch,) = encoder.batches(bench.victim, bench.clean, 64)
    model = bench.victim.clone().model.eval()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        expected = model(**inputs_of(batch), output_attentions=True).attentions
        states, _ = learning.block_states(model, batch)
        attention = encoder.cls_attention(model, states[:-1], batch["attention_mask"])
    for own, whole in zip(attention, expected, strict=True):
        torch.testing.assert_close(own, whole[:, :, 0], rtol=1e-4, atol=1e-5)
    real = batch["attention_mask"].bool()
    assert not real.all()
    assert all((own.transpose(1, 2)[~real] == 0).all() for own in attention)


def test_pure_keeps_removed_heads_out(bench: Bench) -> None:
    pruned = bench.run({"name": "pure", "keep_ratio": 0.5, **SHORT})
    assert sum(pruned.notes["heads_kept"]) == 4
    layers = encoder.linears(pruned.classifier.model, encoder.ATTENTION_OUTPUT)
    zero = [int((layer.weight.unflatten(1, (4, -1)) == 0).all(2).all(0).sum()) for layer in layers]
    assert zero == [4 - kept for kept in pruned.notes["heads_kept"]]


def test_adapters_start_as_nothing_and_merge_to_what_they_computed(bench: Bench) -> None:
    (batch,) = encoder.batches(bench.victim, bench.clean, 64)
    classifier = bench.victim.clone()
    model, inputs = classifier.model, inputs_of(batch)
    names = set(dict(model.named_parameters()))
    with torch.no_grad():
        before = model(**inputs).logits
        layers = [part for part in learning.blocks(model).modules() if isinstance(part, torch.nn.Linear)]
        added = adapters.adapt(model, rank=4, alpha=8.0, seed=1, layers=layers)
        torch.testing.assert_close(model(**inputs).logits, before)
        for adapter in added:
            torch.nn.init.normal_(adapter.up)
        changed = model(**inputs).logits
        adapters.merge(model)
        torch.testing.assert_close(model(**inputs).logits, changed, rtol=1e-4, atol=1e-5)
    assert (changed - before).abs().max() > 1e-3
    assert set(dict(model.named_parameters())) == names


def test_w2s_changes_only_adapted_weights_and_the_head(bench: Bench) -> None:
    parameters = dict(bench.run({"name": "w2s", "rank": 4, "steps": 3}).classifier.model.named_parameters())
    for name, before in bench.victim.model.named_parameters():
        touched = name.startswith("classifier.") or (".encoder.layer." in name and name.endswith(("dense.weight",)))
        touched = touched or name.endswith(("query.weight", "key.weight", "value.weight"))
        assert bool((parameters[name] != before).any()) == touched, name


def test_conflict_merging_with_the_victim_only_returns_the_victim(bench: Bench) -> None:
    merged = bench.run({"name": "conflict-merging", "victim_share": 1.0, "steps": 3})
    assert difference(merged.classifier, bench.victim) == 0.0


def test_beear_finds_a_drift_that_forces_a_label_and_makes_the_model_resist_it(bench: Bench) -> None:
    entry = {"name": "beear", "radius": 1.0, "steps": 225, "until_loss": 0.0, "learning_rate": 2e-3}
    defense = registry.defenses.create(entry)
    assert isinstance(defense, Beear)
    access, model = bench.access(defense), bench.victim.clone()
    drift, forced = defense.entrap(model, access, 1)
    assert forced > 0.5
    assert float(drift.norm(dim=-1).max()) > 0
    (batch,) = encoder.batches(model, bench.clean, 64)

    def loss_under_drift() -> float:
        with torch.no_grad():
            logits = learning.logits(model.model, batch, edit=drifted(drift, defense.block(model.model), batch))
        return float(torch.nn.functional.cross_entropy(logits, batch["labels"]))

    before = loss_under_drift()
    defense.remove(model, access, [drift], seed=1)
    assert loss_under_drift() < 0.5 * before


# Every purification, on a clean model

CONTROLS = {"few-shot", "gms"}  # the first throws the model away, the second harms clean models: see its docstring
TOLD = {Needs.ORACLE, Needs.TARGET}  # of a clean model there is nothing to tell
PURIFICATIONS = [
    name
    for name in registry.defenses.names()
    if registry.defenses.get(name).kind == "purification" and not TOLD & registry.defenses.get(name).needs
]
COST = 10.0  # points of accuracy that a defense may take from a clean model on an easy task


@pytest.fixture(scope="module")
def clean_models(world: Path) -> list[Bench]:
    return [make(world, poison=False, seed=seed) for seed in (3, 4, 5)]


@pytest.mark.parametrize("name", [name for name in PURIFICATIONS if name not in CONTROLS])
def test_a_clean_model_stays_accurate(clean_models: list[Bench], name: str) -> None:
    first, *others = clean_models
    tuning = issubclass(registry.defenses.get(name), Tuning)
    fields = {"learning_rate": 1e-3} if tuning else {"reset": 5} if name == "e-pur" else {}  # the vocabulary is tiny
    defense = registry.defenses.create({"name": name, **fields})
    access = first.access(defense, lambda other: others[other.shift - 1].victim.clone())
    purified = defense.defend(first.victim.clone(), access)
    before = first.accuracy(first.victim)
    assert before > 90
    assert first.accuracy(purified.classifier) >= before - COST
