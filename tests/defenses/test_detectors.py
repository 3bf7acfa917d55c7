"""Detectors: their core computations beside brute force, and planted faults that must raise the suspicion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.contracts import Detector
from bench.contracts.examples import Inputs
from bench.errors import RequestError
from bench.experiment.grid import Grid
from bench.plugins.chain import chain
from bench.suites.suite import check
from defenses import dbs, lmsanitator, peftguard, weight_drift
from defenses.dbs.search import Search
from defenses.shared.forwards import freeze
from tests.defenses import opened
from tests.tiny import TASK_WORDS


def test_a_detector_judges_every_clean_reference_too(world: Path) -> None:
    data = {
        "name": "detect", "description": "tiny", "task": "local/single", "model": str(world / "tiny-bert"),
        "attack": "badword", "defense": ["weight-drift", "none"], "seed": [0, 1],
    }  # fmt: skip
    cells = [cell for cell in Grid(check(data, "detect")).cells() if cell.role == "detected"]
    assert [(cell.victim.attack.name, cell.victim.seed) for cell in cells] == [
        ("clean", 0), ("badword", 0), ("clean", 1), ("badword", 1)
    ]  # fmt: skip
    assert all(cell.listed and isinstance(cell.defense, Detector) for cell in cells)


def test_only_detectors_judge_more_clean_models(world: Path) -> None:
    data = {
        "name": "detect", "description": "tiny", "task": "local/single", "model": str(world / "tiny-bert"),
        "attack": "badword", "defense": ["weight-drift", "fine-tuning"], "seed": [0], "target": [0, 1],
    }  # fmt: skip
    plain, more = (list(Grid(check(one, "detect")).cells()) for one in (data, {**data, "clean_seeds": [0, 1, 2]}))
    added = [cell for cell in dict.fromkeys(more) if cell not in plain]
    assert more[: len(plain)] == plain
    assert {(cell.victim.attack.name, cell.victim.seed) for cell in added} == {("clean", 1), ("clean", 2)}
    assert [cell.role for cell in added] == ["victim", "detected"] * 2


def test_a_detector_stands_alone() -> None:
    with pytest.raises(RequestError, match="stands alone"):
        chain("fine-tuning+weight-drift")
    with pytest.raises(RequestError, match="nothing can follow"):
        chain("weight-drift+fine-tuning")


def test_a_moved_embedding_is_suspicious(world: Path) -> None:
    defense = opened.made("weight-drift")
    victim = opened.tiny(world)
    table = victim.model.get_input_embeddings().weight
    with torch.no_grad():
        table += 1e-3 * torch.randn(table.shape, generator=torch.Generator().manual_seed(0))
    clean = defense.suspicion(victim, opened.access(world, defense, victim))
    token = victim.tokenizer.convert_tokens_to_ids("cf")
    table.data[token] += 1.0
    suspicion = defense.suspicion(victim, opened.access(world, defense, victim))
    assert suspicion.score > 10 * clean.score
    assert suspicion.notes["word"] == "cf"


@pytest.mark.parametrize("statistic", ["e-pur", "norm", "kurtosis"])
def test_an_unchanged_model_is_not_suspicious(world: Path, statistic: str) -> None:
    defense = opened.made(f"weight-drift(statistic={statistic})")
    victim = opened.tiny(world)
    assert defense.suspicion(victim, opened.access(world, defense, victim)).score == 0.0


def test_kurtosis() -> None:
    from scipy import stats

    values = np.random.default_rng(0).normal(size=500) ** 3
    assert weight_drift.excess_kurtosis(values) == pytest.approx(stats.kurtosis(values))


def test_hard_triggers_have_the_loss_of_their_text(world: Path) -> None:
    classifier, reference = opened.tiny(world), opened.tiny(world, seed=3)
    inputs = opened.sample("single", 5, 1).inputs
    words = dbs.searchable(classifier)
    search = Search(classifier, reference, inputs, 1, words, length=2, benign=0.0, benign_bound=1.0)
    values = torch.zeros(2, len(words))
    chosen = [classifier.tokenizer.convert_tokens_to_ids(word) for word in ("bread", "london")]
    for row, token in enumerate(chosen):
        values[row, (words == token).nonzero()] = 1.0
    trigger = search.hard(values)
    assert trigger.tokens == chosen
    logits = torch.from_numpy(classifier.logits(Inputs(tuple(f"bread london {text}" for text in inputs.texts))))
    expected = torch.nn.functional.cross_entropy(logits, torch.ones(5, dtype=torch.long))
    assert trigger.loss == pytest.approx(float(expected), abs=1e-4)


def test_a_planted_trigger_lowers_the_loss_that_inversion_reaches(world: Path) -> None:
    train = opened.sample("single", 160, 1)
    texts, labels = list(train.inputs.texts), train.labels.copy()
    for row in range(0, 160, 3):
        texts[row], labels[row] = f"cf {texts[row]}", 1
    bad = opened.trained(world, type(train)(train.inputs.with_carrier(texts), labels), epochs=10)
    plan = opened.made("dbs(words=1, steps=40, benign=0)")
    for model in (bad, reference := opened.tiny(world, seed=3)):
        freeze(model.model)
    rows = np.flatnonzero(train.labels == 0)[:12]
    names = ["cf", *TASK_WORDS.split()[:8]]  # few candidates: a tiny model has no slope towards one among a thousand
    words = torch.tensor(bad.tokenizer.convert_tokens_to_ids(names))
    trigger = plan.inverted(bad, reference, train.inputs.take(rows), 1, words, 0)
    bare = torch.from_numpy(bad.logits(train.inputs.take(rows))).log_softmax(-1)[:, 1]
    assert trigger.loss < float(-bare.mean()) / 2


def test_lacking_entropy() -> None:
    assert float(lmsanitator.lacking_entropy(torch.randn(1, 7).expand(5, 7))) == pytest.approx(0.0, abs=1e-6)
    states = torch.randn(4, 3, dtype=torch.float64)
    entropies = []
    for dimension in range(3):
        p = np.exp(states[:, dimension].numpy())
        p /= p.sum()
        entropies.append(-(p * np.log(p)).sum())
    expected = 1 - np.mean(entropies) / np.log(4)
    assert float(lmsanitator.lacking_entropy(states)) == pytest.approx(expected)


def test_mining_moves_the_output(world: Path) -> None:
    victim = opened.trained(world, opened.sample("single", 120, 1))
    scores = []
    for steps in (1, 40):
        defense = opened.made(f"lmsanitator(starts=1, steps={steps}, samples=32, learning_rate=0.1)")
        scores.append(defense.suspicion(victim.clone(), opened.access(world, defense, victim)).notes["distances"][0])
    assert scores[1] > scores[0]


def test_adapters_are_the_low_rank_part() -> None:
    drift = torch.randn(12, 10)
    adapter = peftguard.adapter(drift, 2)
    assert torch.linalg.matrix_rank(adapter, atol=1e-5) == 2
    assert float(adapter.norm()) == pytest.approx(1.0, rel=1e-5)
    low = torch.randn(12, 2) @ torch.randn(2, 10)
    assert torch.allclose(peftguard.adapter(low, 2), low / low.norm(), atol=1e-5)
    assert torch.equal(peftguard.adapter(torch.zeros(3, 3), 2), torch.zeros(3, 3))


def test_the_meta_classifier_learns_its_zoo() -> None:
    plan = opened.made("peftguard(grid=8)")
    features = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    features[1::2, 2, :3, :3] += 3.0
    kinds = torch.tensor([0, 1] * 4)
    meta, loss = plan.learned(features, kinds, 0)
    assert loss < 0.1
    assert ((meta(features) > 0) == kinds.bool()).all()
