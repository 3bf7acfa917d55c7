"""General ability beside transformers, and noise that keeps the answer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.analysis import ability, robustness
from bench.contracts import Defended
from tests.conftest import REAL_DATA
from tests.defenses import writers

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
    assert ability.perplexity(model, texts) == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)


def test_a_question_is_answered_by_the_likeliest_choice(writer: writers.Writer) -> None:
    model = writer.victim
    rows = writers.examples(20, 3)
    pairs = zip(rows.inputs.texts, rows.labels, strict=True)
    questions = [ability.Question(text, writers.WORDS, int(label)) for text, label in pairs]
    measured = ability.measure(model, questions, ["the film was lovely"])
    assert measured.right > 90 and measured.right_by_token > 90 and measured.guess == 50
    with pytest.raises(ValueError, match="the right one is number 2"):
        ability.Question("x", ("a", "b"), 2)


@pytest.mark.skipif(REAL_DATA is None, reason="DOORBENCH_DATA is not set")
def test_the_real_files_can_be_read(real_data: Path) -> None:
    questions = ability.questions_of(str(real_data / "mcq_openbookqa"))
    assert len(questions) == 500 and {len(question.choices) for question in questions} == {4}
    assert len(ability.texts_of(str(real_data / "text_wikitext2"))) == 1928


@pytest.mark.parametrize("name", list(robustness.PERTURBATIONS))
def test_a_perturbation_changes_a_little_and_the_same_twice(name: str) -> None:
    perturb = robustness.PERTURBATIONS[name]
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
    measured = robustness.measure(Defended(writer.victim), writer.test, writers.FACTS)
    assert measured["none"] == writer.utility(writer.victim) and set(measured) == {"none", *robustness.PERTURBATIONS}
    assert measured["sentence order"] == measured["none"]  # a single sentence
