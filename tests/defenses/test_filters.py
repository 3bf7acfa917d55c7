"""Test-time defenses: core computations beside brute force, thresholds, and settings that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench import learning
from bench.contracts import Defended, Kind, Predictions, softmax
from bench.contracts.examples import Examples, Inputs
from bench.experiment.evaluation import TestSets, evaluate
from bench.plugins import registry
from defenses import attdef, badacts, demonstrations, onion, rap, strip
from defenses.badacts import clamping
from defenses.onion import word_models
from defenses.psim import prompt as psim
from defenses.shared.filtering import low_quantile
from defenses.shared.forwards import padded, prompted, widened
from tests.defenses import opened

CHEAP = {
    "onion": "onion",
    "rap": "rap(steps=5)",
    "strip": "strip(copies=3)",
    "badacts": "badacts(epochs=2)",
    "badacts-detection": "badacts-detection",
    "attdef": "attdef(steps=2)",
    "psim": "psim(samples=32, epochs=1)",
    "demonstrations": "demonstrations",
}
UNCHANGED = (
    "strip(copies=2, threshold=-1)",
    "psim(samples=16, epochs=1, threshold=1)",
    "attdef(steps=2, tau=1)",
    "demonstrations(share=1)",
    "obliviate(steps=0)",
)


@pytest.fixture(scope="module")
def victim(world: Path) -> learning.Classifier:
    return opened.trained(world, opened.sample("single", 120, 1))


@pytest.fixture(scope="module")
def test_set() -> Examples:
    return opened.sample("single", 40, 4)


def same(first: Predictions, second: Predictions) -> bool:
    close = np.allclose(first.probabilities, second.probabilities, atol=1e-5)
    return close and bool((first.labels == second.labels).all() and (first.rejected == second.rejected).all())


def test_every_filter_is_tested_here() -> None:
    filters = {name for name in registry.defenses.names() if registry.defenses.get(name).kind == "filter"}
    of_labels = {name for name in filters if Kind.CLASSIFICATION in registry.defenses.get(name).kinds}
    assert set(CHEAP) >= of_labels - {"chain"}


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.floats(0, 0.99))
def test_the_threshold_is_the_highest_that_keeps_the_frr(scores: list[float], frr: float) -> None:
    values = np.array(scores)
    threshold = low_quantile(values, frr)
    assert (values < threshold).mean() <= frr
    higher = values[values > threshold]
    if len(higher):
        assert (values < higher.min()).mean() > frr - 1e-12


@pytest.mark.parametrize("entry", UNCHANGED)
def test_settings_under_which_nothing_changes(
    world: Path, victim: learning.Classifier, test_set: Examples, entry: str
) -> None:
    defense = opened.made(entry)
    defended = defense.defend(victim.clone(), opened.access(world, defense, victim))
    assert same(defended.predict(test_set.inputs), Defended(victim).predict(test_set.inputs))


@pytest.mark.parametrize("name", sorted(CHEAP))
def test_test_labels_make_no_difference_and_answers_are_repeatable(
    world: Path, victim: learning.Classifier, test_set: Examples, name: str
) -> None:
    defense = opened.made(CHEAP[name])
    defended = defense.defend(victim.clone(), opened.access(world, defense, victim))
    flipped = Examples(test_set.inputs, 1 - test_set.labels)
    answers = [evaluate(defended, TestSets(gold, None, 1)).predictions["clean"] for gold in (test_set, flipped)]
    for column in ("label", "rejected", "probabilities"):
        assert answers[0][column] == answers[1][column]
    assert defended.notes["forward_passes"] >= 1


@pytest.mark.parametrize("name", ["strip", "rap", "badacts-detection"])
def test_clean_inputs_are_rejected_at_most_as_often_as_asked(
    world: Path, victim: learning.Classifier, name: str
) -> None:
    defense = opened.made(CHEAP[name])
    access = opened.access(world, defense, victim)
    defended = defense.defend(victim.clone(), access)
    assert defended.predict(access.clean.inputs).rejected.mean() <= 0.05 + (0.05 if name != "strip" else 0)


# STRIP


def test_mean_entropy_belongs_to_one_input() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), size=(5, 4)).astype(np.float32)  # 5 inputs, 4 copies
    probabilities[0] = (1.0, 0.0, 0.0)
    expected = [
        np.mean([-sum(p * np.log(p) for p in copy if p > 0) for copy in copies])
        for copies in probabilities.astype(np.float64)
    ]
    entropies = strip.mean_entropy(probabilities.reshape(20, 3), 4)
    assert entropies == pytest.approx(expected)
    assert entropies[0] == 0.0


def test_perturbed_words_come_from_other_classes() -> None:
    clean = Examples(Inputs(("red apple pie", "blue sea wave")), np.array([0, 1]))
    inputs = Inputs(("one two three four", "five six"))
    mixed = strip.perturbed(
        inputs, np.array([0, 1]), strip.Sources(clean), copies=3, ratio=0.5, rng=np.random.default_rng(0)
    )
    assert len(mixed) == 6
    for row, text in enumerate(mixed.texts):
        own, fillers = inputs.texts[row // 3].split(), {"blue", "sea", "wave"} if row < 3 else {"red", "apple", "pie"}
        new = [word for word, before in zip(text.split(), own, strict=True) if word != before]
        assert len(new) == len(own) // 2 and set(new) <= fillers


# ONION


def test_outliers_are_differences_of_perplexities() -> None:
    model = word_models.Trigram(["the film was good", "the film was bad", "a good film"])
    texts = ["the film cf was good", "film", "", "a bad film"]
    outliers = onion.outliers(texts, model, 10)
    for text, scores in zip(texts, outliers, strict=True):
        words = text.split()
        if len(words) < 2:
            assert len(scores) == 0
            continue
        whole = model.perplexities([text])[0]
        parts = model.perplexities([" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))])
        assert scores == pytest.approx(whole - parts)
    assert outliers[0].argmax() == 2, "the trigger word stands out"


def test_trigram_is_witten_bell() -> None:
    model = word_models.Trigram(["a b", "a c"])
    english = model.probability("b", ())
    counts = {"a": 2, "b": 1, "c": 1, word_models.END: 2}
    assert english == pytest.approx((counts["b"] + 4 * model._english("b")) / (6 + 4))
    assert model.probability("b", ("a",)) == pytest.approx((1 + 2 * english) / (2 + 2))
    assert model.probability("b", ("never", "seen")) == english


def test_texts_never_become_empty() -> None:
    scores = np.array([5.0, 5.0])
    assert onion.without("two words", scores, 1.0) == "two words"
    assert onion.without("two  words", scores, 9.0) == "two  words"
    assert onion.without("two words more", scores, 1.0) == "more"


def test_causal_perplexity_does_not_depend_on_padding() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    class Letters:
        bos_token_id, eos_token_id = None, 0

        def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
            return {"input_ids": [[ord(letter) - 96 for letter in text.replace(" ", "")] for text in texts]}

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=27, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    model = word_models.CausalModel(GPT2LMHeadModel(config), Letters())
    texts = ["abc", "a long text", "z"]
    together = model.perplexities(texts)
    assert together == pytest.approx([model.perplexities([text])[0] for text in texts], rel=1e-4)
    ids = torch.tensor([[0, 1, 2, 3]])
    with torch.no_grad():
        assert together[0] == pytest.approx(float(model.model(input_ids=ids, labels=ids).loss.exp()), rel=1e-4)


# RAP


def test_rap_trains_one_embedding_and_leaves_the_model(world: Path, victim: learning.Classifier) -> None:
    defense = opened.made("rap(steps=40, learning_rate=0.05)")
    own = victim.clone()
    before = own.state()
    access = opened.access(world, defense, victim)
    defended = defense.defend(own, access)
    defended.predict(access.clean.inputs)
    assert all((tensor == before[name]).all() for name, tensor in own.state().items())
    assert defended.notes["word"] not in rap.POPULAR


def test_rap_row_lowers_the_protected_probability(world: Path, victim: learning.Classifier) -> None:
    defense = opened.made("rap(steps=60, learning_rate=0.05)")
    access = opened.access(world, defense, victim)
    word, token = defense.chosen_word(victim, access)
    plain = access.clean.take(np.flatnonzero(access.clean.labels == 1)).inputs
    shaken = rap.prefixed(plain, word)
    row = defense.trained(victim, token, shaken, plain, 1, 1.0, access)
    table = victim.model.get_input_embeddings().weight
    assert float(row.norm()) == pytest.approx(float(table[token].detach().norm()), rel=1e-4)

    def objective(vector: torch.Tensor) -> float:
        before = table.data[token].clone()
        table.data[token] = vector
        try:
            logits = victim.logits(shaken)
        finally:
            table.data[token] = before
        diff = softmax(logits)[:, 1] - softmax(victim.logits(plain))[:, 1]
        return float(np.maximum(diff + 0.1, 0).mean() + np.maximum(-0.3 - diff, 0).mean())

    assert objective(row) < objective(table[token].detach())


def test_a_rap_word_of_several_tokens_is_refused(world: Path, victim: learning.Classifier) -> None:
    defense = opened.made("rap(word=zzqqxx)")
    with pytest.raises(ValueError, match="not one token"):
        defense.defend(victim.clone(), opened.access(world, defense, victim))


# BadActs


def test_gaussian_scores_count_dimensions() -> None:
    states = np.random.default_rng(1).normal(size=(6, 2, 5))
    gaussian = badacts.Gaussian(states.mean(0), states.std(0), 1.0)
    expected = [
        np.mean([abs(s[b, d] - gaussian.mean[b, d]) <= gaussian.deviation[b, d] for b in range(2) for d in range(5)])
        for s in states
    ]
    assert gaussian.scores(states) == pytest.approx(expected)


def test_clamping_to_the_range_of_the_inputs_changes_nothing(victim: learning.Classifier, test_set: Examples) -> None:
    ranges = clamping.Ranges.around(victim, test_set.inputs)
    assert clamping.clamped_logits(ranges, victim, test_set.inputs) == pytest.approx(
        victim.logits(test_set.inputs), abs=1e-4
    )
    ranges.top.data -= 1.0
    assert (
        np.abs(clamping.clamped_logits(ranges, victim, test_set.inputs) - victim.logits(test_set.inputs)).max() > 0.01
    )


# AttDef


def test_attributions_are_complete(victim: learning.Classifier) -> None:
    texts = ["the film was superb .", "awful bread in rome"]
    encoded = victim.tokenizer(texts, padding=True, return_offsets_mapping=True, return_tensors="pt")
    labels = np.array([1, 0])
    attributions = attdef.integrated_gradients(victim, encoded, labels, steps=200).sum(1)
    masks = [" ".join(["[MASK]"] * len(text.split())) for text in texts]
    difference = victim.logits(Inputs(tuple(texts))) - victim.logits(Inputs(tuple(masks)))
    assert attributions == pytest.approx(difference[[0, 1], labels], abs=0.05)


def test_words_have_the_scaled_attribution_of_their_tokens(victim: learning.Classifier) -> None:
    texts = ("the film was superb in london .", "bread")  # every word is one token
    labels = np.array([1, 0])
    words = attdef.attributions(victim, Inputs(texts), labels, steps=4)
    encoded = victim.tokenizer([texts[0]], return_offsets_mapping=True, return_tensors="pt")
    tokens = attdef.integrated_gradients(victim, encoded, labels[:1], steps=4)[0, 1:-1]
    assert words[0][0] == pytest.approx((tokens - tokens.min()) / (tokens.max() - tokens.min()), abs=1e-4)
    assert words[0][1].tolist() == [0.0]
    assert attdef.covered("a  b c", np.array([0.2, 0.9, 1.0]), 0.8, "[MASK]") == "a [MASK] [MASK]"


def test_pieces_belong_to_their_words(victim: learning.Classifier) -> None:
    text = "xyzzy film, qqq"
    encoded = victim.tokenizer([text], return_offsets_mapping=True, return_tensors="pt")
    sums = np.full(3, -np.inf)
    attdef.add_up(encoded, 0, np.ones(len(encoded["input_ids"][0])), [(text, sums)])
    pieces = [len(victim.tokenizer(word, add_special_tokens=False)["input_ids"]) for word in text.split()]
    assert sums.tolist() == pieces


# PSIM, Obliviate, demonstrations


def test_a_soft_prompt_of_token_embeddings_is_those_tokens(victim: learning.Classifier) -> None:
    text, inserted = "film was superb", "london bread"
    ids = victim.tokenizer(inserted, add_special_tokens=False)["input_ids"]
    batch = widened(victim, padded(victim, Inputs((text,)), np.array([0])), len(ids))
    words = prompted(victim.model, batch, victim.model.get_input_embeddings().weight[ids])
    with torch.no_grad():
        logits = learning.logits(victim.model, batch, embeddings=words).numpy()
    assert logits == pytest.approx(victim.logits(Inputs((f"{inserted} {text}",))), abs=1e-4)


def test_psim_becomes_unsure_of_what_it_trained_on(world: Path, victim: learning.Classifier) -> None:
    defense = opened.made("psim(samples=64, epochs=15, learning_rate=0.01)")
    texts = opened.sample("single", 64, 1)
    sure = []
    for labels in (texts.labels, np.random.default_rng(0).integers(2, size=len(texts))):
        twin = victim.clone()
        prompt = psim.Prompt(twin.model, defense.tokens, defense.hidden, 0)
        defense.tuned(twin, prompt, Examples(texts.inputs, labels), 0)
        sure.append(np.median(psim.confidence(twin, prompt, texts.inputs)))
    assert sure[0] > sure[1]


def test_obliviate_amplifies_its_adapter(world: Path, victim: learning.Classifier) -> None:
    drifts = []
    for amplify in (0.0, 1.0):
        defense = opened.made(f"obliviate(steps=20, learning_rate=0.01, amplify={amplify})")
        defended = defense.defend(victim.clone(), opened.access(world, defense, victim))
        before, after = victim.state(), defended.classifier.state()
        assert set(before) == set(after)
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert all(".query." in name or ".value." in name or not name.startswith("bert.") for name in changed)
        drifts.append(sum(float((after[n] - before[n]).norm()) for n in before if ".query." in n))
    assert drifts[1] > drifts[0]


def test_votes_are_nearest_neighbours() -> None:
    rng = np.random.default_rng(2)
    vectors, pool = (
        m / np.linalg.norm(m, axis=1, keepdims=True) for m in (rng.normal(size=(4, 3)), rng.normal(size=(9, 3)))
    )
    labels = rng.integers(3, size=9)
    nearest = demonstrations.nearest(vectors, pool, labels, 3, 4, 0.1)
    for vector, votes in zip(vectors, nearest, strict=True):
        near = sorted(range(9), key=lambda i: -float(vector @ pool[i]))[:4]
        weights = np.exp([float(vector @ pool[i]) / 0.1 for i in near])
        expected = np.zeros(3)
        for i, weight in zip(near, weights / weights.sum(), strict=True):
            expected[labels[i]] += weight
        assert votes == pytest.approx(expected, abs=1e-5)
