"""Parameter-efficient tuning with frozen pre-trained weights, merged into plain ones afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from bench import learning
from bench.contracts import Scene
from bench.contracts.examples import Examples

if TYPE_CHECKING:
    from torch import nn

Method = Literal["lora", "ia3"]
# The layers that each method's paper changes: BERT, RoBERTa, ELECTRA; DistilBERT; MPNet; Llama and its relatives.
_ATTENTION: dict[Method, tuple[str, ...]] = {
    "lora": (".self.query", ".self.value", ".q_lin", ".v_lin", ".attn.q", ".attn.v", ".q_proj", ".v_proj"),
    "ia3": (".self.key", ".self.value", ".k_lin", ".v_lin", ".attn.k", ".attn.v", ".k_proj", ".v_proj"),
}
_FORWARD = (".output.dense", ".ffn.lin2", ".mlp.down_proj")  # what leads out of a feed-forward block


def wrap(model: nn.Module, method: Method, *, rank: int, seed: int) -> Any:
    """Put LoRA or (IA)3 modules into a model of any kind, in place; only they and a classification head can be trained.

    Both change linear layers only, so they can be merged into the weights without any loss. Adapters (a new layer with
    a non-linearity) and prefixes (new positions of attention) have no such form.
    """
    import peft
    import torch

    linear = [
        name
        for name, part in model.base_model.named_modules()  # type: ignore[union-attr, operator]
        if isinstance(part, torch.nn.Linear) and "pooler" not in name.split(".")
    ]
    attention = [name for name in linear if name.endswith(_ATTENTION[method])]
    if not attention:
        raise ValueError(f"{type(model).__name__} has no attention layers named {' or '.join(_ATTENTION[method])}")
    if method == "lora":
        config: Any = peft.LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=_full(model, attention))
    else:
        forward = [name for name in linear if name.endswith(_FORWARD) and "attention" not in name]
        targets = _full(model, [*attention, *forward])
        config = peft.IA3Config(target_modules=targets, feedforward_modules=_full(model, forward))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        wrapped: Any = peft.get_peft_model(model, config)  # type: ignore[arg-type]
    for part in learning.head_modules(model):
        part.requires_grad_(True)
    return wrapped


def tune(
    scene: Scene, classifier: Any, examples: Examples, *, method: Method, rank: int, learning_rate: float
) -> Mapping[str, Any]:
    """Tune a model in place with its pre-trained weights frozen; afterwards it has plain ones of the usual form."""
    plain = classifier.model
    wrapped = wrap(plain, method, rank=rank, seed=scene.seed)
    trained = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    try:
        notes = scene.fit(classifier, examples, learning_rate=learning_rate)
    finally:
        classifier.model = wrapped.merge_and_unload().eval()
    for parameter in classifier.model.parameters():
        parameter.requires_grad_(True)
    return {**notes, "method": method, "trained_parameters": trained}


def _full(model: nn.Module, names: list[str]) -> list[str]:
    return [f"{model.base_model_prefix}.{name}" for name in names]
