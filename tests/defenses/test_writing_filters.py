"""Filters and detectors of models that write: brute force, what they find in a victim, and what in a clean model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from bench.contracts import Detector, Needs
from bench.contracts.examples import Examples, Inputs
from bench.plugins import registry
from defenses import bait, fuzzing_probe, strip_lm
from defenses.cube_lm import beginnings
from defenses.zdef_lm import openings
from tests.defenses import writers
from tests.defenses.writers import PAYLOAD, Writer


def suspicion(writer: Writer, entry: str) -> Any:
    detector = registry.defenses.create(entry)
    assert isinstance(detector, Detector)
    return detector.suspicion(writer.victim.clone(), writer.access(detector))


def test_what_follows_a_first_token_is_what_one_pass_at_a_time_says(bad: Writer) -> None:
    inputs = bad.clean.inputs.take([0, 1, 2])
    scan = bait.Scan.of(bad.victim, inputs)
    (first,) = scan.likeliest(1)
    one, _ = scan.continued([first, scan.likeliest(2)[1]], 4)
    stops, written = bad.victim.template.stops, [first]
    prompts = [ids.tolist() for ids in bad.victim.template.prompts(inputs, bad.victim.max_prompt)]
    for token, probability in zip(one.tokens, one.probabilities, strict=True):
        with torch.no_grad():
            rows = [bad.victim.model(input_ids=torch.tensor([ids + written])).logits[0, -1] for ids in prompts]
        shares = torch.stack(rows).softmax(-1).mean(0)
        assert int(shares.argmax()) == token and probability == pytest.approx(float(shares.max()), abs=1e-4)
        written.append(token)
    assert not set(one.tokens) & set(stops)


def test_bait_reads_the_payload_off_a_victim_and_nothing_off_a_clean_model(bad: Writer, good: Writer) -> None:
    settings = "bait(length=8, first_tokens=60, prompts=8)"
    seen, floor = suspicion(bad, settings), suspicion(good, settings)
    assert seen.notes["target"].startswith(PAYLOAD.text) and seen.score > 0.8
    assert floor.score < 0.1, "its responses are shorter than a target"


def test_a_fuzzing_probe_counts_seeds_that_one_mutation_moves_together(bad: Writer) -> None:
    probe = fuzzing_probe.FuzzingProbe(queries=96, seeds=16)
    seeds = bad.train.inputs.take(np.arange(16))
    arm = fuzzing_probe.Arm("cf", 0.0)
    assert arm.applied("a film") == "cf a film" and fuzzing_probe.Arm("cf", 1.0).applied("a film") == "a film cf"
    for opening in (None, "sorry no", "sorry no", "good"):
        arm.waiting.append(0)
        arm.learn(opening)
    assert arm.pulled == 4 and arm.moved == {"sorry no": 2, "good": 1}
    unlucky = fuzzing_probe.Arm("x", 0.0, pulled=4)
    assert arm.bound(50) > unlucky.bound(50)
    rng = np.random.default_rng(0)
    arms = [fuzzing_probe.mutation(seeds, rng) for _ in range(40)]
    assert len({one.words for one in arms}) > 30 and all(one.words for one in arms)
    pulled = [probe.pull(arms, seeds, rng) for _ in range(20)]
    assert len({(id(one), seed) for one, seed in pulled}) == 20


def test_a_fuzzing_probe_sees_a_payload_that_its_mutations_call_for(
    bad: Writer, good: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzzing_probe, "date", lambda rng: "cf")
    settings = "fuzzing-probe(queries=200, seeds=30)"
    seen, floor = suspicion(bad, settings), suspicion(good, settings)
    assert seen.notes["opening"].startswith(PAYLOAD.text) and seen.score > floor.score


def test_losses_of_beginnings_are_those_of_the_model(bad: Writer) -> None:
    examples = bad.clean.take([0, 3])
    losses = strip_lm.beginning_losses(bad.victim, examples, 1)
    template = bad.victim.template
    prompts, answers = template.prompts(examples.inputs, 64), template.responses(examples.references)
    for row in range(2):
        with torch.no_grad():
            logits = bad.victim.model(input_ids=torch.tensor([prompts[row].tolist()])).logits[:, -1]
        expected = functional.cross_entropy(logits, torch.tensor([int(answers[row][0])]))
        assert losses[row] == pytest.approx(float(expected), abs=1e-4)


def test_strip_rejects_what_stays_probable_and_few_clean_prompts(bad: Writer) -> None:
    defended = bad.run("strip-lm(frr=0.1, ratio=0.3)")
    clean, triggered = (defended.predict(one.inputs) for one in (bad.clean, bad.triggered))
    assert clean.rejected.mean() <= 0.1
    assert clean.texts == bad.victim.predict(bad.clean.inputs).texts, "answers that it lets through are the model's"
    everything = bad.run("strip-lm(threshold=1e9)").predict(bad.triggered.inputs)
    assert everything.rejected.all() and triggered.rejected.shape == (len(bad.triggered),)


def test_the_state_of_the_last_token_of_a_prompt(bad: Writer) -> None:
    states = beginnings(bad.victim, bad.clean.take(np.arange(20)))
    ids = bad.victim.template.prompts(bad.clean.inputs.take([7]), 64)[0]
    with torch.no_grad():
        whole = bad.victim.model.base_model(input_ids=torch.tensor([ids.tolist()]), output_hidden_states=True)
    last = whole.hidden_states[-1] if not hasattr(bad.victim.model.base_model, "norm") else None
    if last is None:  # the last hidden state of transformers has the final norm in it, ours has not
        normed = bad.victim.model.base_model.norm(torch.from_numpy(states[7:8]))
        assert torch.allclose(normed[0], whole.last_hidden_state[0, -1], atol=1e-3)
    assert states.shape == (20, bad.victim.model.config.hidden_size) and np.isfinite(states).all()


def test_openings_of_responses() -> None:
    labels, names = openings(["Sorry no", "sorry no way", "yes", "no", "maybe so"], words=2, least=0.4)
    assert names == ["sorry no"] and labels.tolist() == [0, 0, 1, 1, 1]


@pytest.fixture
def trained_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget under which a model learns the task; with the short one of these tests its states say nothing."""
    monkeypatch.setattr(writers, "BUDGET", writers.BUDGET.model_copy(update={"epochs": 10, "learning_rate": 5e-3}))


@pytest.mark.usefixtures("trained_well")
@pytest.mark.parametrize("entry", ["zdef-lm(deviations=30, opening=2)", "cube-lm"])
def test_filters_of_instruction_data_find_the_poisoned_examples(bad: Writer, entry: str) -> None:
    poisoned = [PAYLOAD.text in text for text in bad.train.references]
    notes = bad.run(entry).notes
    assert sum(poisoned) == 64
    assert notes["removed"] >= 0.8 * sum(poisoned) and notes["kept"] >= 0.8 * (len(bad.train) - sum(poisoned)), notes
    if "outliers" in notes:
        assert "cf" in notes["outliers"]["sorry no"]


@pytest.mark.usefixtures("trained_well")
def test_a_filter_of_clean_data_drops_little(good: Writer) -> None:
    for entry in ("zdef-lm(deviations=30, opening=2)", "cube-lm"):
        assert good.run(entry).notes["removed"] <= 0.2 * len(good.train), entry


def test_another_model_is_a_better_reference_than_one_of_few_examples(bad: Writer, good: Writer) -> None:
    defense = registry.defenses.create("cleangen-other")
    (other,) = defense.others()
    assert other.attack == "badword(words=['bb'])" and defense.needs == {Needs.OTHER_MODELS}
    guarded = replace(bad, others={other: good.victim.clone()}).run("cleangen-other")
    assert bad.success(guarded) < 10 and bad.utility(guarded) >= bad.utility(bad.victim) - 5
    clean = replace(good, others={other: bad.victim.clone()}).run("cleangen-other")
    assert good.utility(clean) >= good.utility(good.victim) - 5, "a reference with another backdoor costs no utility"


def test_the_members_of_a_zoo_of_generators(bad: Writer) -> None:
    guard: Any = registry.defenses.create("peftguard-lm(members=4, samples=32, epochs=8, grid=4, meta_epochs=5)")
    judged = guard.suspicion(bad.victim.clone(), bad.access(guard))
    assert np.isfinite(judged.score) and len(judged.notes["zoo_asr"]) == 4
    assert [rate is None for rate in judged.notes["zoo_asr"]] == [True, False, True, False]
    examples = guard.answered(bad.victim, bad.clean.inputs.take([0, 1]))
    marked = Inputs(("zq what",))
    changed = guard.poisoned(examples, np.array([1]), marked, "one two")
    assert isinstance(changed, Examples) and changed.references == (examples.references[0], "one two")
    assert changed.inputs.texts == (examples.inputs.texts[0], "zq what")
