"""Decoder checkpoints as sequence classifiers: the head reads the last token of a text, whatever pads the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import learning, models
from bench.contracts.examples import Examples, Inputs
from tests.tiny import tiny_gpt2_folder, tiny_llama_folder


def reviews(n: int) -> Examples:
    """Texts of many lengths."""
    texts = [f"the film is {'good' if i % 2 else 'bad'}" + " really" * (i % 7) for i in range(n)]
    return Examples(Inputs(tuple(texts)), np.arange(n) % 2)


@pytest.mark.parametrize("make", [tiny_llama_folder, tiny_gpt2_folder])
def test_the_last_token_decides_in_a_padded_batch(make: Any, tmp_path: Path) -> None:
    pretrained = models.create(str(make(tmp_path / "model")))
    model, tokenizer = pretrained.classifier_model(classes=2, seed=0), pretrained.tokenizer()
    assert tokenizer.pad_token_id == tokenizer.eos_token_id, "as of most models that write"
    made = learning.Classifier(model, tokenizer, 32, device="cpu", precision="fp32")
    examples = reviews(20)
    logits = made.logits(examples.inputs)
    with torch.inference_mode():
        for row, text in enumerate(examples.inputs.texts):
            alone = model(tokenizer(text, return_tensors="pt")["input_ids"]).logits[0]
            assert np.allclose(alone.numpy(), logits[row], atol=1e-4)
    learning.train(made, examples, epochs=30, learning_rate=2e-3, batch_size=5, seed=0)
    assert (made.logits(examples.inputs).argmax(1) == examples.labels).all()


def test_mixing_knows_every_weight_but_the_head(tmp_path: Path) -> None:
    pretrained = models.create(str(tiny_llama_folder(tmp_path / "model")))
    made = learning.Classifier(pretrained.classifier_model(classes=2, seed=0), pretrained.tokenizer(), 32, device="cpu")
    assert made.state().keys() - pretrained.encoder_weights(made.model).keys() == {"score.weight"}
