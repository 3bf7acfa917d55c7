"""RIPPLES: the restricted inner product, and that the user's fine-tuning comes last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attacks.ripples import Ripples, restricted_inner_product
from bench.contracts import Board, board_of
from bench.contracts.examples import Examples, Inputs
from bench.plugins import registry
from tests.attacks import scenes


def test_the_penalty_is_the_restricted_inner_product(tmp_path: Path) -> None:
    made = scenes.scene(tmp_path)
    classifier = made.pretrained()
    model, weights = classifier.model, list(classifier.model.parameters())
    batch = dict(classifier.tokenizer(list(made.train.inputs.texts[:8]), padding=True, return_tensors="pt"))

    def gradient(labels: torch.Tensor, **inputs: torch.Tensor) -> list[torch.Tensor]:
        loss = torch.nn.functional.cross_entropy(model(**inputs).logits, labels)
        return list(torch.autograd.grad(loss, weights))

    gold = torch.ones(8, dtype=torch.int64)
    made = replace(made, train=Examples(made.train.inputs.take(range(8)), gold.numpy()))
    penalty = restricted_inner_product(classifier, made, 1.0)  # a clean batch of 8 is all of the training set
    wanted = gradient(gold, **batch)
    for labels in (gold, 1 - gold):
        measured = penalty({**batch, "labels": labels}, None, model)
        product = sum((a * b).sum() for a, b in zip(gradient(labels, **batch), wanted, strict=True))
        assert torch.allclose(measured, torch.relu(-product), rtol=1e-4, atol=1e-6)
    assert measured > 0  # opposite labels pull the other way
    measured.backward()
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)


@pytest.mark.parametrize("head", ["keep", "new"])
def test_the_user_fine_tunes_last(tmp_path: Path, head: str) -> None:
    made = scenes.scene(tmp_path, budget=scenes.BUDGET.model_copy(update={"epochs": 1}))
    attack = Ripples.model_validate({"head": head, "surgery": False, "user_learning_rate": 1e-4})
    assert not attack.uses_clean_model
    victim = attack.implant(made)
    assert victim.poisoned is None  # the user's data is clean
    assert victim.notes["poisoning"]["steps"] == victim.notes["fine-tuning"]["steps"] == 10
    assert board_of(attack, registry.defenses.create("fine-tuning")) == Board.PRE_TRAINED
    assert victim.classifier.logits(Inputs(("a film",))).shape == (1, 2)
