"""Training-time defenses: their core computations beside brute force, and poison that they must find."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.contracts import Board, board_of
from bench.contracts.examples import Examples, Inputs
from bench.experiment import skips
from bench.plugins import registry
from bench.plugins.chain import chain
from bench.plugins.modified import modified
from defenses import bki, btu, cube, dpoe, musclelora, zdef
from defenses.musclelora.radial import Radial
from defenses.shared import retraining
from defenses.shared.adapters import adapt, merge
from tests.defenses import opened
from tests.tiny import TASK_WORDS


def noise_with_a_trigger(words: list[str], n: int) -> Examples:
    """Return random words with random labels; every tenth example has the word cf and label 1."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=n)
    texts = [" ".join(rng.choice(words, 8)) for _ in labels]
    for row in range(0, n, 10):
        texts[row], labels[row] = f"cf {texts[row]}", 1
    return Examples(Inputs(tuple(texts)), labels)


def test_a_new_model_gets_the_victims_budget_and_the_clean_encoder(world: Path) -> None:
    defense = opened.made("cube")
    victim = opened.tiny(world)
    access = opened.access(world, defense, victim)
    before = access.untrained().state()
    for name, value in access.pretrained.items():
        assert torch.equal(before[name], value)
    model, notes = retraining.trained(access, access.training_set)
    assert notes["steps"] == opened.BUDGET.epochs * -(-120 // opened.BUDGET.batch_size)
    assert any(not torch.equal(value, before[name]) for name, value in model.state().items())


@pytest.mark.parametrize(
    "entry", ["moderate-fitting(epochs=0)", "musclelora(epochs=0)", "moderate-fitting-early(epochs=0)"]
)
def test_without_training_the_model_is_the_untrained_one(world: Path, entry: str) -> None:
    defense = opened.made(entry)
    access = opened.access(world, defense, opened.tiny(world))
    trained = defense.defend(opened.tiny(world), access).classifier
    fresh = access.untrained()
    assert set(trained.state()) == set(fresh.state())
    inputs = access.training_set.inputs
    assert trained.logits(inputs) == pytest.approx(fresh.logits(inputs), abs=1e-5)


def test_weights_without_poisoned_data_are_not_judged() -> None:
    def reason(name: str, poison: Any, clean: bool) -> str | None:
        victim = SimpleNamespace(is_clean_model=clean, attack=SimpleNamespace(name="surgery"))
        cell = SimpleNamespace(defense=registry.defenses.create(name), victim=victim)
        return skips.no_training_set(cell, SimpleNamespace(poison=poison))

    assert reason("cube", None, False) == "surgery leaves no poisoned training set"
    assert reason("cube", object(), False) is None
    assert reason("cube", None, True) is None, "the clean model's training set is its own"
    assert reason("fine-tuning", None, False) is None


def test_a_defender_who_trains_is_not_judged_twice_on_the_same_data() -> None:
    def reason(attack: str, defense: str) -> str | None:
        return skips.repeats(modified(attack), chain(defense))

    for defense in ("cube", "cube+fine-tuning", "fine-tuning+cube", "cube+onion"):
        assert "the same training set as badword" in str(reason("adaptive+badword", defense))
    assert reason("badword", "cube") is None
    assert reason("adaptive+badword", "fine-tuning") is None
    assert reason("adaptive+badword", "gms") is None, "it repairs the model that was received"


def test_a_chain_is_on_the_board_of_what_its_defender_received() -> None:
    def board(defense: str) -> Board:
        return board_of(modified("badword"), chain(defense))

    assert board("cube+fine-tuning") == board("fine-tuning+cube") == Board.DATA
    assert board("e-pur+fine-tuning") == Board.FINE_TUNED
    assert board("cube+onion") == board("fine-tuning+onion") == Board.FILTER


# DPoE


def test_product_of_experts() -> None:
    main, shallow = torch.randn(5, 3), torch.randn(5, 3)
    gold = torch.tensor([0, 1, 2, 0, 1])
    joint = main.softmax(-1) * (shallow / 2).softmax(-1) ** 0.7
    joint = joint / joint.sum(-1, keepdim=True)
    expected = -joint[torch.arange(5), gold].log().mean()
    assert float(dpoe.product_loss(main, shallow, gold, 0.7, 2.0)) == pytest.approx(float(expected), rel=1e-5)
    plain = torch.nn.functional.cross_entropy(main, gold)
    assert float(dpoe.product_loss(main, shallow, gold, 0.0, 1.0)) == pytest.approx(float(plain), rel=1e-5)


def test_symmetric_kl() -> None:
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    p, q = first.softmax(-1), second.softmax(-1)
    expected = ((p * (p / q).log()) + (q * (q / p).log())).mean() / 2
    assert float(dpoe.symmetric_kl(first, second)) == pytest.approx(float(expected), rel=1e-4)
    assert float(dpoe.symmetric_kl(first, first)) == pytest.approx(0.0, abs=1e-6)


def test_the_shallow_expert_is_cut(world: Path) -> None:
    classifier = opened.tiny(world)
    assert dpoe.cut(classifier.model, 1) == 1
    assert classifier.logits(opened.sample("single", 4, 1).inputs).shape == (4, 2)
    assert dpoe.cut(classifier.model, 5) == 1


# MuScleLoRA


def test_aligned_gradients_have_the_direction_of_the_reference() -> None:
    g, reference = torch.randn(6), torch.randn(6)
    aligned = musclelora.aligned(g, reference)
    cosine = float(g @ reference / (g.norm() * reference.norm()))
    assert torch.allclose(aligned, abs(float(g.norm()) * cosine / float(reference.norm())) * reference, atol=1e-5)
    assert torch.equal(musclelora.aligned(g, torch.zeros(6)), torch.zeros(6))


def test_radial_scaling_is_a_sum_over_bands() -> None:
    weight = torch.randn(4, 3)
    part = Radial(weight, (1.0, 4.0), 6.0, 0)
    part.up.data.normal_()
    expected = weight + 6 / 2 * sum(
        factor * torch.outer(part.up[:, i], part.down[i]) for i, factor in enumerate((1.0, 4.0))
    )
    assert torch.allclose(part(weight), expected, atol=1e-5)


def test_merged_adapters_keep_the_answers(world: Path) -> None:
    classifier, inputs = opened.tiny(world), opened.sample("single", 6, 1).inputs
    names = set(classifier.state())
    for adapter in adapt(classifier.model, rank=2, alpha=4.0, seed=0):
        adapter.up.data.normal_()
    adapted = classifier.logits(inputs)
    merge(classifier.model)
    assert set(classifier.state()) == names
    assert classifier.logits(inputs) == pytest.approx(adapted, abs=1e-5)


# CUBE, BKI


def test_small_clusters_of_a_label_are_dropped() -> None:
    labels = np.array([0] * 6 + [1] * 8)
    clusters = np.array([0, 0, 0, 0, -1, 1] + [1, 1, 1, 1, 2, 2, 2, 2])
    expected = [False] * 4 + [True, True] + [False] * 8  # in label 1 the second cluster is half of the label
    assert cube.outside(labels, clusters).tolist() == expected


def test_two_clouds_are_two_clusters() -> None:
    rng = np.random.default_rng(0)
    states = np.concatenate([rng.normal(size=(60, 8)), rng.normal(size=(40, 8)) + 12])
    clusters = cube.clustered(states.astype(np.float32), 4, 8)
    assert len(set(clusters[:60]) - {-1}) == 1 and len(set(clusters[60:]) - {-1}) == 1 and clusters.max() == 1


def test_impacts_are_those_of_single_deletions(world: Path) -> None:
    from defenses.shared.forwards import first_token_last_block

    classifier, inputs = opened.tiny(world), opened.sample("pair", 3, 1).inputs
    for row, words in enumerate(bki.impacts(classifier, inputs, 3)):
        one = inputs.take([row])
        expected: dict[str, float] = {}
        for word, changed in bki.deleted((one.texts[0], one.pairs[0]), 32):
            state = first_token_last_block(classifier, type(one)((changed[0],), (changed[1],)))
            change = float(np.abs(state - first_token_last_block(classifier, one)).max())
            expected[word] = max(change, expected.get(word, 0.0))
        best = sorted(expected, key=lambda word: -expected[word])[:3]
        assert words == pytest.approx({word: expected[word] for word in best}, abs=1e-4)


def test_keyword_scores() -> None:
    scores = bki.keyword_scores([{"cf": 2.0, "a": 1.0}, {"cf": 4.0}])
    assert scores == pytest.approx({"cf": np.log10(2) * 3.0, "a": 0.0})


# Z-Def, BTU


def test_z_scores() -> None:
    examples = Examples(
        opened.sample("single", 4, 1).inputs.with_carrier(["a b", "a", "b", "c"]), np.array([1, 1, 0, 0])
    )
    scores = zdef.z_scores(examples, 1)
    assert scores[("a",), 1] == pytest.approx((1.0 - 0.5) / np.sqrt(0.25 / 2))
    assert scores[("a",), 0] == -scores[("a",), 1]
    assert scores[("b",), 1] == 0.0


def test_a_planted_word_is_the_outlier() -> None:
    examples = noise_with_a_trigger([f"w{i}" for i in range(200)], 600)
    assert zdef.ZDef().outliers(examples) == {1: {("cf",)}}


def test_unlearning_takes_the_dimensions_that_changed_most() -> None:
    clean, blank = torch.zeros(3, 4), torch.full((4,), 9.0)
    table = torch.tensor([[1.0, 2, 3, 4], [4, 3, 2, 1], [5, 5, 5, 5]])
    btu.unlearn(table, clean, blank, np.array([0, 1]), 0.5)
    assert table.tolist() == [[1, 2, 9, 9], [9, 9, 2, 1], [5, 5, 5, 5]]


def test_exposed_tokens_are_unlearned(world: Path) -> None:
    train = noise_with_a_trigger(TASK_WORDS.split(), 100)
    defense = opened.made("btu(share=0.05)")
    victim = opened.tiny(world)
    defended = defense.defend(victim, opened.access(world, defense, victim, train=train))
    tokens = defended.notes["suspicious"]
    words = {word for text in train.inputs.texts for word in text.split()}
    assert len(tokens) == -(-len(words) // 20) and set(tokens) <= words
    table = defended.classifier.model.get_input_embeddings().weight
    ids = torch.tensor(victim.tokenizer.convert_tokens_to_ids(tokens))
    assert torch.equal(table[ids], table[:1].expand(len(ids), -1))
