"""Architectures with an attention, a padding or a number of segments of their own answer as transformers does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from bench import models
from bench.checkpoints.kinds import opened
from bench.contracts.examples import Inputs
from bench.learning import Classifier

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_position_embeddings": 64}
CONFIGURATIONS: dict[str, Callable[[int], Any]] = {
    "DeBERTa": lambda size: transformers.DebertaConfig(vocab_size=size, pad_token_id=0, **SIZES, **RELATIVE),
    "DeBERTa v2": lambda size: transformers.DebertaV2Config(
        vocab_size=size, pad_token_id=0, type_vocab_size=0, **SIZES, **RELATIVE
    ),
    "XLNet": lambda size: transformers.XLNetConfig(
        vocab_size=size, d_model=16, n_layer=2, n_head=2, d_inner=32, pad_token_id=0
    ),
    "MPNet": lambda size: transformers.MPNetConfig(vocab_size=size, max_position_embeddings=66, **SIZES),
    "RoBERTa": lambda size: transformers.RobertaConfig(
        vocab_size=size, max_position_embeddings=66, type_vocab_size=1, **SIZES
    ),
    "GPT-2": lambda size: transformers.GPT2Config(
        vocab_size=size, n_embd=16, n_layer=2, n_head=2, n_positions=64, pad_token_id=0
    ),
}
TEXTS = ("a film", "the garden number 3 was superb in london .", "dull")
PAIRS = ("yes it is .", "is the phone dull ?", "no")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_batch_answers_as_each_input_alone(world: Path, tmp_path: Path, name: str) -> None:
    tokenizer: Any = models.create(str(world / "tiny-bert")).tokenizer()
    config = CONFIGURATIONS[name](len(tokenizer))
    config.num_labels = 2
    auto: Any = transformers.AutoModelForSequenceClassification
    torch.manual_seed(0)
    auto.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    suspect = opened(tmp_path)
    located = models.create(str(tmp_path))
    located.check(tokens=64)
    for model in (suspect.module(), located.classifier_model(classes=2, seed=0)):
        classifier = Classifier(model, located.tokenizer(), 64, device="cpu", precision="fp32")
        for pairs in (None, PAIRS):
            with torch.inference_mode():
                alone = [
                    model(**classifier.tokenizer(*row, return_tensors="pt")).logits.numpy()
                    for row in zip(*([TEXTS] if pairs is None else [TEXTS, pairs]), strict=True)
                ]
            assert np.allclose(classifier.logits(Inputs(TEXTS, pairs)), np.concatenate(alone), atol=1e-5)
