"""Parts of a transformer that defenses work on, found by their names in the module tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bench.contracts.examples import Inputs

# The first linear layer of a feed-forward block: BERT, RoBERTa, ELECTRA, DeBERTa, MPNet; DistilBERT; the gate of Llama.
FEED_FORWARD = (".intermediate.dense", ".ffn.lin1", ".mlp.gate_proj")
# What takes the units of a block whose first layer is a gate: their product with what the gate lets through.
BEHIND_A_GATE = ".mlp.down_proj"


def feed_forward_layers(model: nn.Module) -> list[nn.Linear]:
    """Return the first linear layer of every feed-forward block, lowest first: weight [units, hidden], bias [units].

    Those of Llama have no bias.

    Raises:
        ValueError: the architecture has none under a known name.
    """
    layers = [
        part for name, part in model.named_modules() if name.endswith(FEED_FORWARD) and isinstance(part, nn.Linear)
    ]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no feed-forward layers named {' or '.join(FEED_FORWARD)}")
    return layers


def blocks(model: nn.Module) -> nn.ModuleList:
    """Return the transformer blocks of the encoder, lowest first.

    Raises:
        ValueError: the architecture holds them in no list of the configured length.
    """
    wanted = model.config.num_hidden_layers  # type: ignore[union-attr]
    for part in model.base_model.modules():  # type: ignore[union-attr]
        if isinstance(part, nn.ModuleList) and len(part) == wanted:
            return part
    raise ValueError(f"{type(model).__name__} has no list of {wanted} transformer blocks")


def head_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules of the classification head: everything beside the encoder that holds parameters.

    There are none in a causal language model: what it writes words with is pre-trained.
    """
    pretrained = (model.base_model, model.get_output_embeddings())  # type: ignore[operator]
    return [part for part in model.children() if part not in pretrained and any(True for _ in part.parameters())]


def reinitialise_head(classifier: Any, *, seed: int) -> None:
    """Draw the weights of the classification head anew, as the architecture initialises them, in place."""
    model = classifier.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in head_modules(model):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    fresh = torch.empty(module.weight.shape).normal_(0.0, model.config.initializer_range)
                    module.weight.data.copy_(fresh)
                    if module.bias is not None:
                        module.bias.data.zero_()


@torch.inference_mode()
def mean_activations(classifier: Any, inputs: Inputs) -> torch.Tensor:
    """Return the mean absolute activation of every feed-forward unit over all real tokens: float32 [layers, units].

    Args:
        classifier: a model of any kind.
        inputs: texts that it reads.
    """
    model, layers = classifier.model, feed_forward_layers(classifier.model)
    gated = [part for name, part in model.named_modules() if name.endswith(BEHIND_A_GATE)]
    sums = torch.zeros(len(layers), layers[0].out_features)
    tokens = 0
    mask = torch.zeros(0)

    def add(index: int, units: torch.Tensor) -> None:
        sums[index] += (units.abs() * mask.unsqueeze(-1)).sum((0, 1)).float().cpu()

    def first(index: int) -> Callable[..., None]:  # every ungated architecture has GELU, up to its approximation
        return lambda _layer, _input, output: add(index, nn.functional.gelu(output))

    def behind(index: int) -> Callable[..., None]:
        return lambda _layer, entering: add(index, entering[0])

    hooks = [layer.register_forward_pre_hook(behind(index)) for index, layer in enumerate(gated)] or [
        layer.register_forward_hook(first(index)) for index, layer in enumerate(layers)
    ]
    model.eval()
    try:
        for start in range(0, len(inputs), 32):
            batch = classifier.padded(inputs.take(range(start, min(start + 32, len(inputs)))))
            mask = batch["attention_mask"]
            tokens += int(mask.sum())
            model.base_model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    return sums / tokens
