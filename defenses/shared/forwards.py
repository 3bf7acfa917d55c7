"""What several defenses do with a model beside predicting: batches, layers, hidden states, changed embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from bench import learning
from bench.contracts import Classifier, FloatArray
from bench.contracts.examples import Inputs, IntArray
from bench.learning.batches import by_budget, collate_for

TOKENS = 4096  # padded tokens that go through a model together
Batch = dict[str, torch.Tensor]


def padded(classifier: Classifier, inputs: Inputs, rows: IntArray) -> Batch:
    """Return some rows of the inputs as padded tensors on the model's device."""
    encoded = learning.encode(classifier.tokenizer, inputs, classifier.max_length)
    batch = collate_for(classifier.model.config, encoded, rows)
    return {name: tensor.to(device_of(classifier.model)) for name, tensor in batch.items()}


def batches(classifier: Classifier, inputs: Inputs, *, tokens: int = TOKENS) -> Iterator[tuple[IntArray, Batch]]:
    """Yield rows and their padded tensors, the longest first, at most ``tokens`` padded tokens together."""
    lengths = learning.encode(classifier.tokenizer, inputs, classifier.max_length).lengths
    for rows in by_budget(lengths, tokens):
        yield rows, padded(classifier, inputs, rows)


def device_of(model: nn.Module) -> torch.device:
    """Return where the parameters of a model are."""
    return next(model.parameters()).device


def arithmetic(classifier: Classifier) -> Any:
    """Return the context in which the model predicts: bf16 where its device computes in it natively."""
    low = getattr(classifier, "precision", "fp32") == "bf16"
    return torch.autocast(device_of(classifier.model).type, torch.bfloat16, enabled=low)


def first_token_per_block(classifier: Classifier, inputs: Inputs) -> FloatArray:
    """Return the state of the first token behind every block: float32 [n, blocks, hidden]."""

    def read(model: Any, batch: Batch) -> torch.Tensor:
        return torch.stack([states[:, 0] for states in learning.block_states(model, batch)[0][1:]], dim=1)

    return _collected(classifier, inputs, read, len(learning.blocks(classifier.model)))


def first_token_last_block(classifier: Classifier, inputs: Inputs) -> FloatArray:
    """Return the last state of the first token: float32 [n, hidden]."""
    return _collected(classifier, inputs, learning.first_token_last_block)


def sentence_vectors(classifier: Classifier, inputs: Inputs) -> FloatArray:
    """Return unit vectors, float32 [n, hidden], along the mean of the last states of the real tokens."""

    def read(model: Any, batch: Batch) -> torch.Tensor:
        states, lengths = learning.states(model, batch), batch["attention_mask"].sum(1)
        texts = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
        sums = states.new_zeros(len(lengths), states.shape[1]).index_add(0, texts, states)
        return nn.functional.normalize(sums, dim=-1)

    return _collected(classifier, inputs, read)


@torch.inference_mode()
def _collected(
    classifier: Classifier, inputs: Inputs, read: Callable[[Any, Batch], torch.Tensor], *shape: int
) -> FloatArray:
    """Return what is read off every input: float32 [n, *shape, hidden]."""
    model = classifier.model.eval()
    states = np.zeros((len(inputs), *shape, model.config.hidden_size), dtype=np.float32)
    for rows, batch in batches(classifier, inputs):
        with arithmetic(classifier):
            states[rows] = read(model, batch).cpu().numpy()
    return states


def widened(classifier: Classifier, batch: Batch, width: int) -> Batch:
    """Return the batch with ``width`` placeholder tokens behind the first token, for vectors that replace them.

    Tokens that the positions of the model cannot hold any more are cut off at the end.
    """
    tokenizer = classifier.tokenizer
    blank = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.unk_token_id
    fills = {"input_ids": blank, "attention_mask": 1, "token_type_ids": 0}
    limit = classifier.model.config.max_position_embeddings - 2
    wide = {}
    for name, table in batch.items():
        middle = table.new_full((len(table), width), fills[name])
        wide[name] = torch.cat([table[:, :1], middle, table[:, 1:]], dim=1)[:, :limit]
    return wide


def prompted(model: Any, batch: Batch, vectors: torch.Tensor) -> torch.Tensor:
    """Return word embeddings [B, L, hidden] with vectors [width, hidden] for the tokens that :func:`widened` put in."""
    words = model.get_input_embeddings()(batch["input_ids"])
    middle = vectors.to(words.dtype).expand(len(words), -1, -1)
    return torch.cat([words[:, :1], middle, words[:, 1 + len(vectors) :]], dim=1)


def freeze(model: nn.Module) -> None:
    """Switch off the gradients of every parameter."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def unfreeze(model: nn.Module) -> None:
    """Switch on the gradients of every parameter."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
