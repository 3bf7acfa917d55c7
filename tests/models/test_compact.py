"""Victims as the difference to their pre-trained weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench import learning, models
from bench.models import compact


@pytest.mark.parametrize("trained", [True, False], ids=["close to the base", "far from the base"])
def test_weights_come_back_bit_by_bit(world: Path, tmp_path: Path, trained: bool) -> None:
    pretrained = models.create(str(world / "tiny-bert"))
    model = pretrained.classifier_model(classes=3, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (1e-5 if trained else 10.0))
    made = learning.Classifier(model, pretrained.tokenizer(), 32, device="cpu")
    made.save(tmp_path)
    plain = (tmp_path / compact.PLAIN).stat().st_size
    compact.compact(tmp_path, model, pretrained)
    reader = compact.reader(tmp_path, pretrained)
    if trained:
        assert not (tmp_path / compact.PLAIN).exists()
        assert (tmp_path / compact.DIFFERENCE).stat().st_size < compact.WORTH * plain
    else:
        assert reader is None
        assert not (tmp_path / compact.DIFFERENCE).exists()
    back = learning.Classifier.load(tmp_path, pretrained, device="cpu", weights=reader)
    for name, value in made.state().items():
        assert value.numpy().tobytes() == back.state()[name].numpy().tobytes(), name
