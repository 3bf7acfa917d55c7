"""The inside of an encoder: its blocks, its hidden states, and further passes through it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bench import learning
from bench.contracts import Classifier
from bench.examples import Examples

Batch = dict[str, torch.Tensor]
# Names of the linear layers of a block: BERT, RoBERTa and ELECTRA; then DistilBERT.
QUERY = (".attention.self.query", ".attention.q_lin")
KEY = (".attention.self.key", ".attention.k_lin")
VALUE = (".attention.self.value", ".attention.v_lin")
ATTENTION_OUTPUT = (".attention.output.dense", ".attention.out_lin")
FEED_FORWARD_IN = (".intermediate.dense", ".ffn.lin1")
FEED_FORWARD_OUT = (".output.dense", ".ffn.lin2")


def blocks(model: nn.Module) -> nn.ModuleList:
    """Return the transformer blocks, lowest first.

    Raises:
        ValueError: no list of modules is as long as the configuration says.
    """
    config: Any = model.config
    for part in model.base_model.modules():  # type: ignore[union-attr]
        if isinstance(part, nn.ModuleList) and len(part) == config.num_hidden_layers:
            return part
    raise ValueError(f"{type(model).__name__} has no list of {config.num_hidden_layers} blocks")


def linears(model: nn.Module, names: tuple[str, str]) -> list[nn.Linear]:
    """Return one linear layer of every block, lowest block first.

    Raises:
        ValueError: a block has none, or more than one, of that name.
    """
    found = []
    for block in blocks(model):
        parts = [
            part
            for name, part in block.named_modules()
            if isinstance(part, nn.Linear)
            and f".{name}".endswith(names)
            and (names != FEED_FORWARD_OUT or not f".{name}".endswith(ATTENTION_OUTPUT))
        ]
        if len(parts) != 1:
            raise ValueError(f"{type(model).__name__} has {len(parts)} layers {' or '.join(names)} in a block")
        found += parts
    return found


def heads(model: nn.Module) -> int:
    """Return the number of attention heads of a block."""
    config: Any = model.config
    return int(config.num_attention_heads)


def batches(classifier: Classifier, examples: Examples, size: int) -> Iterator[Batch]:
    """Yield padded batches of tensors, with ``labels``, in the order of the examples."""
    device = classifier.model.device
    for start in range(0, len(examples), size):
        part = examples.take(range(start, min(start + size, len(examples))))
        columns = [list(column) for column in (part.inputs.texts, part.inputs.pairs) if column is not None]
        batch = classifier.tokenizer(
            *columns, padding=True, truncation=True, max_length=classifier.max_length, return_tensors="pt"
        ).to(device)
        yield {**batch, "labels": torch.tensor(part.labels, device=device)}


def inputs_of(batch: Mapping[str, torch.Tensor]) -> Batch:
    """Return a batch as the model takes it: without labels."""
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


def forward(model: nn.Module, batch: Batch, *, embeddings: torch.Tensor | None = None) -> torch.Tensor:
    """Run a further pass and return the logits; in training it has dropout of its own.

    Args:
        model: a sequence classifier.
        batch: as :func:`bench.learning.train` hands it to an extra loss.
        embeddings: word embeddings [rows, tokens, hidden] to use instead of those of ``input_ids``.
    """
    inputs = inputs_of(batch)
    if embeddings is not None:
        inputs = {name: tensor for name, tensor in inputs.items() if name != "input_ids"}
        inputs["inputs_embeds"] = embeddings
    logits: torch.Tensor = model(**inputs).logits
    return logits


def states_and_logits(
    model: nn.Module, batch: Batch, *, embeddings: torch.Tensor | None = None
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Run a further pass; return its hidden states and logits.

    The states are the output of the embeddings and of every block, [rows, tokens, hidden] each. They are caught by
    hooks of our own: those that transformers installs for ``output_hidden_states`` stay on the model.
    """
    seen: dict[Any, torch.Tensor] = {}
    parts = blocks(model)
    after = hooked([(block, _keep(seen, number)) for number, block in enumerate(parts)])
    before = hooked([(parts[0], lambda _module, inputs: seen.__setitem__("start", inputs[0]))], before=True)
    with before, after:
        logits = forward(model, batch, embeddings=embeddings)
    return [seen["start"], *(seen[number] for number in range(len(parts)))], logits


def hidden_states(model: nn.Module, batch: Batch, *, embeddings: torch.Tensor | None = None) -> list[torch.Tensor]:
    """Return the hidden states of a further pass, as :func:`states_and_logits` does."""
    return states_and_logits(model, batch, embeddings=embeddings)[0]


def cls_attention(model: nn.Module, batch: Batch) -> list[torch.Tensor]:
    """Return what the first token attends to in every block: float [rows, heads, tokens], 0 on padding."""
    count, seen = heads(model), {}
    layers = {"query": linears(model, QUERY), "key": linears(model, KEY)}
    with hooked([(layer, _keep(seen, (kind, i))) for kind, found in layers.items() for i, layer in enumerate(found)]):
        forward(model, batch)
    real = batch["attention_mask"].bool()[:, None, :]
    maps = []
    for i in range(len(layers["query"])):
        query, key = (seen[kind, i].unflatten(-1, (count, -1)).transpose(1, 2) for kind in ("query", "key"))
        scores = torch.einsum("bhd,bhtd->bht", query[:, :, 0], key) / query.shape[-1] ** 0.5
        maps.append(scores.masked_fill(~real, float("-inf")).softmax(-1))
    return maps


def _keep(seen: dict[Any, torch.Tensor], place: Any) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        seen[place] = output[0] if isinstance(output, tuple) else output

    return hook


@contextmanager
def hooked(hooks: list[tuple[nn.Module, Callable[..., Any]]], *, before: bool = False) -> Iterator[None]:
    """Have functions called with the outputs of modules, or ``before`` them with their inputs."""
    handles: list[Any] = []
    try:
        for module, hook in hooks:
            register = module.register_forward_pre_hook if before else module.register_forward_hook
            handles.append(register(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Switch the gradients of all weights off."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def restart(classifier: Classifier, pretrained: Mapping[str, torch.Tensor], *, seed: int) -> Classifier:
    """Return a copy with the pre-trained weights; the head, and what else they lack, is drawn from the seed."""
    fresh = classifier.clone()
    model = fresh.model
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        drawn = type(model)(copy.deepcopy(model.config)).state_dict()
    model.load_state_dict({**drawn, **pretrained}, strict=False)
    learning.reinitialise_head(fresh, seed=seed)  # type: ignore[arg-type]
    return fresh


def fisher(classifier: Classifier, examples: Examples) -> dict[str, torch.Tensor]:
    """Return the diagonal of the empirical Fisher matrix by parameter: the mean squared gradient of single examples."""
    model = classifier.model.eval()
    weights = dict(model.named_parameters())
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for batch in batches(classifier, examples, 1):
        loss = functional.cross_entropy(model(**inputs_of(batch)).logits, batch["labels"])
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                sums[name].addcmul_(gradient, gradient, value=1 / len(examples))
    return sums
