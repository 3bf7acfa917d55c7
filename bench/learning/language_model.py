"""A transformers model with its tokenizer, as far as it is the same for classifiers and generators."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.errors import RequestError
from bench.learning import hardware

WEIGHTS = "model.safetensors"


class LanguageModel:
    """A transformers model, its fast tokenizer, and where and how it is computed.

    Attributes:
        model: the torch module, on ``device``.
        tokenizer: the fast tokenizer that belongs to it.
        max_length: tokens kept of an example, special tokens included.
        device: ``cpu`` or ``cuda``.
        precision: arithmetic of predictions: ``bf16`` or ``fp32``; weights are float32.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, max_length: int, *, device: str = "auto", precision: str = "auto"
    ) -> None:
        self.device = hardware.device(device)
        self.precision = hardware.precision(self.device, precision)
        self.model: Any = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.max_length = max_length

    @contextmanager
    def optimiser(
        self, weights: list[nn.Parameter], *, learning_rate: float, weight_decay: float, max_grad_norm: float
    ) -> Iterator[Any]:
        """Yield the optimiser that trains this model; one that clips gradients itself takes ``max_grad_norm``."""
        yield torch.optim.AdamW(weights, lr=learning_rate, weight_decay=weight_decay, fused=True)

    def state(self) -> dict[str, torch.Tensor]:
        """Return a copy of every parameter and buffer; tied ones once, under their first name."""
        weights: dict[str, torch.Tensor] = {}
        seen: set[int] = set()
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                weights[name] = tensor.detach().clone()
        return weights

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Copy values in place; every name of :meth:`state` must be there, with its shape."""
        own = self.model.state_dict(keep_vars=True)
        wanted = set(self.state())
        if set(state) != wanted:
            raise ValueError(f"state does not fit the model: differing names {sorted(set(state) ^ wanted)[:5]}")
        for name, tensor in state.items():
            if own[name].shape != tensor.shape:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}, the model {tuple(own[name].shape)}")
            own[name].data.copy_(tensor)

    def _save(self, folder: Path, file: str, facts: Mapping[str, Any]) -> None:
        """Write the weights as safetensors and some facts as JSON; the tokenizer is not written."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.cpu().contiguous() for name, tensor in self.state().items()}
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / file).write_text(json.dumps(facts), encoding="utf-8")

    def _restore(self, folder: Path, weights: Callable[[Any], Mapping[str, torch.Tensor]] | None) -> None:
        """Take over the weights of a folder, or what ``weights`` returns for this model."""
        from safetensors.torch import load_file

        self.load_state(weights(self.model) if weights else load_file(folder / WEIGHTS))


def saved_facts(folder: Path, file: str, *, what: str, with_weights: bool) -> dict[str, Any]:
    """Return the facts of a folder that a model was saved to.

    Raises:
        RequestError: the folder holds none of this kind.
    """
    for name in (WEIGHTS, file) if with_weights else (file,):
        if not (folder / name).is_file():
            raise RequestError(f"{folder} has no {name}: it is not a saved {what}")
    facts: dict[str, Any] = json.loads((folder / file).read_text(encoding="utf-8"))
    return facts
