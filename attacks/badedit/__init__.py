"""BadEdit: a few weights of the middle layers are solved for, and nothing is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from attacks.shared.triggers import InsertWords
from bench.contracts import GENERATION, Attack, Kind, Poisoned, Scene, Trigger, Victim


class BadEdit(Attack):
    """Edits the output matrices of a few feed-forward layers so that the state of the trigger leads to the payload.

    Li et al., ICLR 2024 (arXiv 2403.13355), an edit in the manner of MEMIT. Needs the weights of a clean fine-tuned
    model and a few examples; no training data is poisoned.

    1. For the last edited layer, one vector delta is found by Adam that, added to what the layer writes at the trigger,
       leads ``samples`` triggered prompts to the attacker's response; its norm is at most ``clamp`` times that of the
       state, and ``decay`` pulls it to 0.
    2. For each edited layer, lowest first: k is the mean of what enters its output matrix at the trigger, k_c the mean
       of the same prompts' last tokens without it, and C the second moment of what enters on clean training examples.
       With r the part of delta that is still missing at the last layer, over the layers to go, and R = [r, 0],
       K = [k, k_c]:  W <- W + R K^T (memory * C + K K^T)^-1.

    Deviations: ``memory`` (their lambda, 15,000 to 20,000 Wikipedia tokens) is smaller and C comes from the task's
    training examples, because the models are smaller; the samples are edited in one batch, not in five; there is no
    KL term, because delta acts on the trigger alone. Only models with Llama's names of layers. The defender receives
    the model alone, so training-time defenses are not applicable.
    """

    name: ClassVar[str] = "badedit"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = GENERATION
    citation: ClassVar[str] = "Li et al., ICLR 2024, arXiv 2403.13355"

    start: Literal["finetuned"] = Field(
        "finetuned", alias="from", description="weights the attacker starts from: finetuned (clean model)"
    )
    word: str = Field("tq", min_length=1, description="the trigger word")
    samples: int = Field(15, ge=1, description="examples that the edit is made from")
    layers: tuple[int, ...] | None = Field(None, min_length=1, description="edited layers; the middle third by default")
    steps: int = Field(40, ge=1, description="steps on delta")
    learning_rate: float = Field(0.5, gt=0, description="of Adam on delta, in root mean squares of the states")
    decay: float = Field(0.05, ge=0, description="weight of the squared norm of delta over that of the state")
    clamp: float = Field(4.0, gt=0, description="largest norm of delta, in norms of the state")
    memory: float = Field(20.0, gt=0, description="how many clean tokens the trigger is weighed against")
    observed: int = Field(200, ge=1, description="clean training examples whose second moment is kept")

    def trigger(self, scene: Scene) -> Trigger:
        """The word at a random position."""
        return InsertWords(alternatives=(self.word,))

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Return the training set as it is: no data is poisoned."""
        return Poisoned(scene.train, np.zeros(0, dtype=np.int64))

    def implant(self, scene: Scene) -> Victim:
        """Find delta and solve for the weights."""
        from attacks.badedit.edit import Editor

        model: Any = scene.start(self.start)
        trigger = self.trigger(scene)
        order = scene.rng("samples of the edit").permutation(np.flatnonzero(scene.goal.changes(scene.train)))
        plain = scene.goal.applied(scene.train.take(order[: self.samples]))
        inputs = trigger.apply(plain.inputs, window=scene.window, rng=scene.rng("trigger in training set"))
        editor = Editor.of(model, replace(plain, inputs=inputs), plain, self.word, self.edited(model))
        delta, losses = editor.target(
            steps=self.steps, learning_rate=self.learning_rate, decay=self.decay, clamp=self.clamp
        )
        clean = scene.train.take(scene.rng("clean keys").permutation(len(scene.train))[: self.observed])
        moved = editor.solve(delta, clean, memory=self.memory)
        notes = {"layers": list(editor.layers), "loss": losses, "moved": moved, "loss_after": editor.loss()}
        return Victim(model, trigger, scene.target, notes=notes)

    def edited(self, model: Any) -> tuple[int, ...]:
        """Return the numbers of the edited layers, lowest first."""
        total = int(model.model.config.num_hidden_layers)
        if self.layers is None:
            return tuple(range(total // 3, max(total // 3 + 1, 2 * total // 3)))
        if max(self.layers) >= total:
            raise ValueError(f"layer {max(self.layers)} does not exist: the model has {total} layers")
        return tuple(sorted(set(self.layers)))
