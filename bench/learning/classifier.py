"""A transformers sequence classifier with its tokenizer."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from bench.contracts import FloatArray
from bench.contracts.examples import Inputs, IntArray
from bench.errors import RequestError
from bench.learning import hardware, packed
from bench.learning.batches import by_budget, collate_for
from bench.learning.tokens import Encoded, encode

if TYPE_CHECKING:
    from bench.models.pretrained import PretrainedModel

TOKEN_BUDGET = 4096
WEIGHTS, FACTS = "model.safetensors", "classifier.json"


class Classifier:
    """A sequence-classification model of transformers, its fast tokenizer and how both are used.

    Attributes:
        model: the torch module, on ``device``.
        tokenizer: the fast tokenizer that belongs to it.
        max_length: tokens kept of an input, special tokens included.
        device: ``cpu`` or ``cuda``.
        precision: arithmetic of ``logits``: ``bf16`` or ``fp32``; weights are float32.
        token_budget: tokens of an evaluation batch; halved when the device runs out of memory.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, max_length: int, *, device: str = "auto", precision: str = "auto"
    ) -> None:
        self.device = hardware.device(device)
        self.precision = hardware.precision(self.device, precision)
        self.model: Any = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.token_budget = TOKEN_BUDGET

    def logits(self, inputs: Inputs) -> FloatArray:
        """Return float32 [n, classes]; the model is in evaluation mode. Inputs go through in length-sorted batches."""
        encoded = encode(self.tokenizer, inputs, self.max_length)
        self.model.eval()
        outputs: list[tuple[IntArray, torch.Tensor]] = []
        waiting = by_budget(encoded.lengths, self.token_budget)[::-1]
        while waiting:
            rows = waiting.pop()
            try:
                outputs.append((rows, self._forward(encoded, rows)))
            except torch.OutOfMemoryError:
                if len(rows) == 1:
                    raise
                self.token_budget = max(1, self.token_budget // 2)
                half = len(rows) // 2
                waiting += [rows[half:], rows[:half]]
        result = np.zeros((len(inputs), self.model.config.num_labels), dtype=np.float32)
        for rows, part in outputs:  # only now, so that a GPU never waits for the copy
            result[rows] = part.cpu().numpy()
        return result

    @torch.inference_mode()
    def _forward(self, encoded: Encoded, rows: IntArray) -> torch.Tensor:
        low = self.precision == "bf16"
        if packed.supports(self.model):
            batch = packed.pack(encoded, rows, self.model)
            return packed.logits(self.model, batch, dtype=torch.bfloat16 if low else torch.float32)
        padded = collate_for(self.model.config, encoded, rows)
        with torch.autocast(self.device, torch.bfloat16, enabled=low):
            output: torch.Tensor = self.model(
                **{name: tensor.to(self.device) for name, tensor in padded.items()}
            ).logits
        return output.float()

    def clone(self) -> Classifier:
        """Return an independent copy."""
        return Classifier(
            copy.deepcopy(self.model),
            self.tokenizer,
            self.max_length,
            device=self.device,
            precision=self.precision,
        )

    @contextmanager
    def optimiser(
        self, weights: list[nn.Parameter], *, learning_rate: float, weight_decay: float, max_grad_norm: float
    ) -> Iterator[Any]:
        """Yield the optimiser that trains this classifier; one that clips gradients itself takes ``max_grad_norm``."""
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

    def save(self, folder: Path) -> None:
        """Write the weights as safetensors and what is needed to load them; the tokenizer is not written."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.cpu().contiguous() for name, tensor in self.state().items()}
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        facts = {"classes": self.model.config.num_labels, "max_length": self.max_length}
        (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")

    @staticmethod
    def load(
        folder: Path,
        pretrained: PretrainedModel,
        *,
        device: str = "auto",
        precision: str = "auto",
        weights: Callable[[Any], Mapping[str, torch.Tensor]] | None = None,
    ) -> Classifier:
        """Read what :meth:`save` wrote; architecture and tokenizer come from the pre-trained model.

        Args:
            folder: where it is.
            pretrained: the model that it was trained from.
            device: see :class:`Classifier`.
            precision: see :class:`Classifier`.
            weights: returns the weights for a fresh model, where the folder holds them in another form.

        Raises:
            RequestError: the folder holds no saved classifier.
        """
        from safetensors.torch import load_file

        for name in (FACTS,) if weights else (WEIGHTS, FACTS):
            if not (folder / name).is_file():
                raise RequestError(f"{folder} has no {name}: it is not a saved classifier")
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        model = pretrained.classifier_model(classes=facts["classes"], seed=0)
        classifier = Classifier(model, pretrained.tokenizer(), facts["max_length"], device=device, precision=precision)
        classifier.load_state(weights(classifier.model) if weights else load_file(folder / WEIGHTS))
        return classifier
