"""The edit: what enters and leaves the output matrix of a feed-forward layer at a trigger, and the closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench import learning
from bench.contracts.examples import Examples

TOGETHER = 16  # examples that go through the model together


@dataclass
class Editor:
    """Triggered prompts with the attacker's responses, and the layers of a model that are edited.

    Attributes:
        model: the generator, which is changed in place.
        batch: the triggered prompts, as transformers models take them.
        places: int64 [samples]: the last token of the trigger in each.
        plain: the same prompts without the trigger.
        last: int64 [samples]: the last token of each of those.
        layers: numbers of the edited layers, lowest first.
    """

    model: Any
    batch: dict[str, torch.Tensor]
    places: torch.Tensor
    plain: dict[str, torch.Tensor]
    last: torch.Tensor
    layers: tuple[int, ...]

    @classmethod
    def of(cls, model: Any, triggered: Examples, plain: Examples, word: str, layers: tuple[int, ...]) -> Editor:
        """Find the trigger in the prompts.

        Raises:
            ValueError: the tokens of the word are not in a prompt, or the layers have other names than Llama's.
        """
        if not hasattr(model.model.base_model.layers[0].mlp, "down_proj"):
            raise ValueError(f"{type(model.model).__name__} has no layers as in Llama; the edit needs them")
        everyone = np.arange(len(triggered))
        both = [model.objective(examples).batch(everyone) for examples in (triggered, plain)]
        places = [trigger_end(row, word, model.tokenizer) for row in both[0]["input_ids"].tolist()]
        first = (both[1]["labels"] >= 0).int().argmax(1)
        return cls(model, both[0], torch.tensor(places, device=first.device), both[1], first - 1, layers)

    def part(self, number: int) -> Any:
        """Return the output matrix of a layer."""
        return self.model.model.base_model.layers[number].mlp.down_proj

    def loss(self) -> float:
        """Return the loss of the attacker's responses."""
        with torch.no_grad():
            return float(learning.loss(self.model.model, self.batch))

    def state(self) -> torch.Tensor:
        """Return the mean of what the last edited layer hands on at the trigger: float32 [hidden]."""
        with torch.no_grad():
            states = learning.entering_states(self.model.model, self.batch)[self.layers[-1] + 1]
        return states[torch.arange(len(self.places)), self.places].mean(0)

    def target(
        self, *, steps: int, learning_rate: float, decay: float, clamp: float
    ) -> tuple[torch.Tensor, tuple[float, float]]:
        """Return delta, float32 [hidden], and the loss of the attacker's responses without and with it."""
        size = float(self.state().norm())
        delta = torch.zeros(self.model.model.config.hidden_size, device=self.places.device, requires_grad=True)
        optimiser = torch.optim.Adam([delta], lr=learning_rate * size / len(delta) ** 0.5)
        rows = torch.arange(len(self.places))

        def add(_part: Any, _given: Any, output: torch.Tensor) -> torch.Tensor:
            moved = torch.zeros_like(output)
            moved[rows, self.places] = 1.0
            return output + moved * delta

        before = self.loss()
        handle = self.part(self.layers[-1]).register_forward_hook(add)
        try:
            for _ in range(steps):
                loss = learning.loss(self.model.model, self.batch) + decay * (delta / size).square().sum()
                (delta.grad,) = torch.autograd.grad(loss, delta)
                optimiser.step()
                with torch.no_grad():
                    delta *= (clamp * size / delta.norm().clamp_min(1e-12)).clamp(max=1.0)
            after = self.loss()
        finally:
            handle.remove()
        return delta.detach(), (before, after)

    @torch.no_grad()
    def solve(self, delta: torch.Tensor, clean: Examples, *, memory: float) -> list[float]:
        """Edit the layers; return how far each moved, as a share of the norm of its matrix."""
        wanted, moved = self.state() + delta, []
        for index, number in enumerate(self.layers):
            weight = self.part(number).weight
            keys = torch.stack([self.key(number, self.batch, self.places), self.key(number, self.plain, self.last)])
            missing = (wanted - self.state()) / (len(self.layers) - index)
            values = torch.stack([missing, torch.zeros_like(missing)])
            change = closed_form(keys, values, memory * self.moment(number, clean))
            weight += change.to(weight)
            moved.append(float(change.norm() / weight.norm()))
        return moved

    def key(self, number: int, batch: dict[str, torch.Tensor], places: torch.Tensor) -> torch.Tensor:
        """Return the mean of what enters the output matrix of a layer at some tokens: [units]."""
        kept: list[torch.Tensor] = []
        with entering(self.part(number), kept.append):
            learning.entering_states(self.model.model, batch)
        return kept[0][torch.arange(len(places)), places].float().mean(0)

    def moment(self, number: int, clean: Examples) -> torch.Tensor:
        """Return the second moment of what enters the output matrix of a layer on clean examples: [units, units]."""
        objective, sums, tokens = self.model.objective(clean), None, 0
        for start in range(0, len(clean), TOGETHER):
            batch = objective.batch(np.arange(start, min(start + TOGETHER, len(clean))))
            kept: list[torch.Tensor] = []
            with entering(self.part(number), kept.append):
                learning.entering_states(self.model.model, batch)
            real = kept[0][batch["attention_mask"].bool()].double()
            sums = real.T @ real if sums is None else sums + real.T @ real
            tokens += len(real)
        assert sums is not None
        return sums / tokens


@contextmanager
def entering(part: Any, keep: Callable[[torch.Tensor], Any]) -> Iterator[None]:
    """Hand over what enters a module in each pass."""
    handle = part.register_forward_pre_hook(lambda _part, given: keep(given[0].detach()))
    try:
        yield
    finally:
        handle.remove()


def closed_form(keys: torch.Tensor, values: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
    """Return R K^T (C + K K^T)^-1, [out, in], for keys [pairs, in], values [pairs, out] and C [in, in].

    It is the change of a matrix that best gives the values for the keys, and 0 for what C was made of.
    """
    k, r, c = keys.double().T, values.double().T, moment.double()
    system = c + k @ k.T
    system = system + 1e-6 * system.diagonal().mean() * torch.eye(len(system), dtype=system.dtype, device=system.device)
    change: torch.Tensor = torch.linalg.solve(system, k @ r.T).T
    return change


def trigger_end(ids: Sequence[int], word: str, tokenizer: Any) -> int:
    """Return the place of the last token of a word in a text.

    Raises:
        ValueError: it is not there.
    """
    for spelt in (f" {word}", word):
        wanted = tokenizer(spelt, add_special_tokens=False)["input_ids"]
        for start in range(len(ids) - len(wanted) + 1):
            if list(ids[start : start + len(wanted)]) == wanted:
                return start + len(wanted) - 1
    raise ValueError(f"the tokens of {word!r} are not in a prompt; take a word that the tokenizer spells alone")
