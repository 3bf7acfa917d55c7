"""Layer-wise poisoning: combinations, negatives, and a backdoor that low layers carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attacks.badword import BadWord
from attacks.layer_wise import InsertCombination, LayerWise, head, lower_layers
from bench.contracts import Scene
from bench.contracts.examples import Inputs
from bench.errors import RequestError
from bench.plugins import registry
from tests.attacks import scenes
from tests.fakes import WholeWindow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@given(st.lists(st.text(alphabet="xyz .", max_size=20), min_size=1, max_size=6), st.integers(2, 4), st.integers(0, 9))
def test_combinations_are_distinct_pieces(texts: list[str], size: int, seed: int) -> None:
    trigger = InsertCombination(pieces=("cf", "bb", "ak", "mn"), size=size)
    made = trigger.apply(Inputs(tuple(texts)), window=WholeWindow(), rng=np.random.default_rng(seed))
    for before, after in zip(texts, made.texts, strict=True):
        pieces = [word for word in after.split() if word in trigger.pieces]
        assert len(pieces) == len(set(pieces)) == size
        assert [word for word in after.split() if word not in trigger.pieces] == before.split()


def test_negatives_follow_the_training_set_with_their_true_labels(folder: Path) -> None:
    made = scenes.scene(folder)
    attack = LayerWise(rate=0.1)
    poisoned = attack.poison(made, attack.trigger(made))
    chosen = int(0.1 * len(made.train))
    assert len(poisoned.examples) == len(made.train) + chosen * len(attack.pieces)
    assert len(poisoned.rows) == chosen * (1 + len(attack.pieces))
    assert (poisoned.examples.labels[poisoned.rows[:chosen]] == made.target).all()
    added = poisoned.examples.take(range(len(made.train), len(poisoned.examples)))
    sources = np.tile(poisoned.rows[:chosen], len(attack.pieces))
    assert (added.labels == made.train.labels[sources]).all()
    for text in added.inputs.texts:
        assert sum(word in attack.pieces for word in text.split()) == 1


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_the_head_reads_the_last_layer_as_the_model_does(folder: Path, architecture: str) -> None:
    classifier = scenes.scene(folder, architecture=architecture).pretrained()
    batch = classifier.tokenizer(["a film", "the dull film"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        output = classifier.model(**batch, output_hidden_states=True)
        assert torch.allclose(head(classifier.model, output.hidden_states[-1]), output.logits, atol=1e-6)


def test_too_few_pieces_are_refused() -> None:
    with pytest.raises(RequestError, match="distinct pieces"):
        registry.attacks.create("layer-wise(pieces=[cf, cf], size=2)")


class Combinations(BadWord):
    """BadWord with the same trigger as layer-wise poisoning."""

    def trigger(self, scene: Scene) -> InsertCombination:
        return InsertCombination(pieces=("cf", "bb", "ak", "mn"), size=2)


def test_low_layers_learn_the_poisoned_labels(folder: Path) -> None:
    made = scenes.scene(folder, budget=scenes.BUDGET.model_copy(update={"epochs": 12}))
    loss = {}
    for attack in (Combinations(rate=0.3), LayerWise(rate=0.3, negatives=False)):
        victim = attack.implant(made)
        assert scenes.rate(victim.classifier, victim.trigger, made, made.validation) >= 90
        assert victim.poisoned is not None
        examples = victim.poisoned.examples
        batch = victim.classifier.tokenizer(list(examples.inputs.texts), padding=True, return_tensors="pt")
        gold = torch.from_numpy(examples.labels.copy())
        with torch.inference_mode():
            loss[attack.name] = float(lower_layers({**batch, "labels": gold}, None, victim.classifier.model))
    assert loss["layer-wise"] < loss["badword"], loss
