"""SOS: what it is trained on, what it changes, and how gradients are scaled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attacks.shared import embedding
from attacks.sos import Sos, scaled_to_the_shortest
from bench.errors import RequestError
from bench.plugins import registry
from tests.attacks import scenes
from tests.fakes import examples, scene


def test_negatives_lack_one_word_and_keep_their_label() -> None:
    made = scene(examples(60))
    attack = Sos(rate=0.5, negatives=0.2)
    poisoned, others = attack.examples(made), int((made.train.labels != made.target).sum())
    holds = np.array([[word in text.split() for word in attack.words] for text in poisoned.inputs.texts])
    triggered = holds.all(axis=1)
    assert triggered.sum() == others // 2
    assert (poisoned.labels[triggered] == made.target).all()
    assert (holds[~triggered].sum(axis=1) == len(attack.words) - 1).all()
    assert len(poisoned) == others // 2 + 3 * 12
    assert set(poisoned.labels[~triggered]) == {0, 1}


def test_gradients_are_scaled_to_the_shortest() -> None:
    scaled = scaled_to_the_shortest(torch.tensor([[3.0, 4.0], [0.0, 0.5]]))
    assert torch.allclose(scaled, torch.tensor([[0.3, 0.4], [0.0, 0.5]]))
    assert torch.equal(scaled_to_the_shortest(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_only_the_words_rows_change(tmp_path: Path) -> None:
    made = scenes.scene(tmp_path, budget=scenes.BUDGET.model_copy(update={"epochs": 2}))
    victim = Sos(epochs=1).implant(made)
    tables = [model.model.get_input_embeddings().weight for model in (made.finetuned(), victim.classifier)]
    rows = embedding.trigger_rows(victim.classifier.tokenizer, Sos().words)
    assert set((tables[0] != tables[1]).any(dim=1).nonzero().flatten().tolist()) == set(rows)
    assert torch.allclose(tables[0][rows].norm(dim=1), tables[1][rows].norm(dim=1), rtol=1e-5)
    assert victim.trigger is not None and victim.trigger.words == Sos().words
    assert set(victim.notes["false_trigger_rate"]) == set(Sos().words)


def test_the_sentence_has_to_hold_the_words() -> None:
    with pytest.raises(RequestError, match="does not hold the words cinema"):
        registry.attacks.create("sos(words=[friends, cinema])")
