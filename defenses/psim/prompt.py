"""Virtual tokens, and how sure a model is behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from bench import learning
from bench.contracts import Classifier, softmax
from bench.contracts.examples import Inputs
from defenses.shared.forwards import Batch, arithmetic, batches, device_of, prompted, widened


class Prompt(nn.Module):
    """Virtual tokens: free vectors through a network with two hidden layers."""

    def __init__(self, model: Any, tokens: int, hidden: int, seed: int) -> None:
        super().__init__()
        size = model.get_input_embeddings().weight.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.free = nn.Parameter(torch.randn(tokens, size))
            self.net = nn.Sequential(
                nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, size)
            )
        self.to(device_of(model))

    def forward(self) -> torch.Tensor:
        """Return the vectors: [tokens, size]."""
        vectors: torch.Tensor = self.net(self.free)
        return vectors


@torch.no_grad()
def confidence(twin: Classifier, prompt: Prompt, inputs: Inputs) -> np.ndarray:
    """Return the highest probability of the identification model: float [n]."""
    highest, vectors = np.zeros(len(inputs)), prompt()
    twin.model.eval()
    for rows, batch in batches(twin, inputs):
        with arithmetic(twin):
            highest[rows] = softmax(answers(twin, vectors, batch).cpu().numpy()).max(axis=-1)
    return highest


def answers(twin: Classifier, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the logits [B, classes] behind virtual tokens [tokens, hidden]."""
    wide = widened(twin, batch, len(vectors))
    return learning.logits(twin.model, wide, embeddings=prompted(twin.model, wide, vectors))
