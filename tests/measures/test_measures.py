"""What is measured beside answers: general ability beside transformers, and noise that keeps the answer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.contracts import Defended, Task
from bench.experiment.metric import correlation
from bench.measures import ability, noise, similarity
from bench.plugins import registry
from tests.conftest import REAL_DATA
from tests.defenses import helpers, writers

TEXT = "The garden was lovely yesterday . It rained in the evening ! Nobody complained about the weather ?"


@pytest.fixture(scope="module")
def writer(world: Path) -> writers.Writer:
    return writers.make(world, poison=False)


def test_perplexity_is_that_of_transformers(writer: writers.Writer) -> None:
    model = writer.victim
    texts = ["the film was lovely", "a garden"]
    losses = []
    for text in texts:
        ids = [model.template.end, *model.tokenizer(text, add_special_tokens=False)["input_ids"]]
        with torch.no_grad():
            logs = model.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        losses += [-float(logs[at, token]) for at, token in enumerate(ids[1:])]
    assert math.exp(ability.losses(model, texts).mean()) == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)


def test_a_question_is_answered_by_the_likeliest_choice(writer: writers.Writer) -> None:
    model = writer.victim
    rows = writers.examples(20, 3)
    pairs = zip(rows.inputs.texts, rows.labels, strict=True)
    questions = [ability.Question(text, writers.WORDS, int(label)) for text, label in pairs]
    logs, tokens = ability.likelihoods(model, questions)
    assert ability.right(logs, questions).mean() > 0.9
    assert {len(own) for own in (*logs, *tokens)} == {2} and len(logs) == len(tokens) == 20
    with pytest.raises(ValueError, match="the right one is number 2"):
        ability.Question("x", ("a", "b"), 2)


@pytest.mark.skipif(REAL_DATA is None, reason="DOORBENCH_DATA is not set")
def test_the_real_files_can_be_read(real_data: Path) -> None:
    questions = ability.questions_of(str(real_data / "mcq_openbookqa"))
    assert len(questions) == 500 and {len(question.choices) for question in questions} == {4}
    assert len(ability.texts_of(str(real_data / "text_wikitext2"))) == 1928


@pytest.mark.parametrize("name", list(noise.PERTURBATIONS))
def test_a_perturbation_changes_a_little_and_the_same_twice(name: str) -> None:
    perturb = noise.PERTURBATIONS[name]
    first, again = (perturb(TEXT, np.random.default_rng(1)) for _ in range(2))
    assert first == again != TEXT
    if "order" in name:
        assert sorted(first.split()) == sorted(TEXT.split())
    else:
        pairs = zip(TEXT.split(), first.split(), strict=True)
        changed = [(a, b) for a, b in pairs if a != b]
        assert 1 <= len(changed) <= 2 and all(abs(len(a) - len(b)) <= 1 for a, b in changed)
    for short in ("", "a", "one."):
        perturb(short, np.random.default_rng(0))


def test_robustness_of_a_model(writer: writers.Writer) -> None:
    task = Task(writers.FACTS, writer.train, writer.clean, writer.test, "")
    made = registry.measures.create("noise(examples=1000)")
    columns = made.outcomes(Defended(writer.victim), task)
    assert set(columns) == {f"noise: {name}" for name in noise.PERTURBATIONS}
    assert 100 * columns["noise: sentence order"].mean() == writer.utility(writer.victim)  # a single sentence
    assert all(len(column) == len(writer.test) for column in columns.values())
    few = registry.measures.create("noise(examples=10)").outcomes(Defended(writer.victim), task)
    assert {len(column) for column in few.values()} == {10}


def test_the_product_of_standardised_ranks_is_the_rank_correlation() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, 40), rng.normal(size=40)
    products = similarity.standardised_ranks(first) * similarity.standardised_ranks(second)
    assert products.mean() == pytest.approx(spearmanr(first, second).statistic)
    assert correlation(products) == pytest.approx(100 * spearmanr(first, second).statistic)
    assert (similarity.standardised_ranks(np.ones(4)) == 0).all()


def test_the_vector_of_a_sentence_is_the_mean_state_of_its_tokens(world: Path) -> None:
    victim = helpers.make(world).victim
    texts = ["the film was lovely in paris .", "bread", "a garden in rome"]
    vectors = similarity.sentence_vectors(victim, texts)
    for text, vector in zip(texts, vectors, strict=True):
        batch = victim.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            mean = victim.model.base_model(**batch).last_hidden_state[0].mean(0)
        assert np.allclose(vector, (mean / mean.norm()).numpy(), atol=1e-4)
