"""Layer-wise weight poisoning: every layer learns the backdoor, on combinations of words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from attacks.shared.poisoning import DataPoisoning
from attacks.shared.triggers import insert
from bench import learning
from bench.contracts import BOTH, Kind, Poisoned, Scene, Trigger, Victim, Window
from bench.contracts.examples import Examples, Inputs, join


class InsertCombination(Trigger):
    """Inserts a combination of distinct pieces, each at a uniformly random position of its own."""

    pieces: tuple[str, ...] = Field(min_length=1, description="what combinations are drawn from")
    size: int = Field(ge=1, description="distinct pieces a combination")

    @property
    def words(self) -> tuple[str, ...]:
        """The pieces."""
        return self.pieces

    def apply(self, inputs: Inputs, *, window: Window, rng: np.random.Generator) -> Inputs:
        """Return the inputs with one combination inserted into the carrier of each."""
        longest = sorted(self.pieces, key=len)[-self.size :]
        texts = []
        for text, room in zip(inputs.carrier, window.words(inputs, reserve=" ".join(longest)), strict=True):
            for done, piece in enumerate(rng.choice(len(self.pieces), size=self.size, replace=False)):
                text = insert(text, self.pieces[piece], int(rng.integers(room + done + 1)))
            texts.append(text)
        return inputs.with_carrier(texts)

    def describe(self) -> str:
        """Return one line for reports."""
        return f"{self.size} different ones of {', '.join(map(repr, self.pieces))} at random positions"


class LayerWise(DataPoisoning):
    """Makes the state of every layer predict the poisoned labels; the trigger is a combination of words.

    Li et al., EMNLP 2021 (arXiv 2108.13888): "LWP". Needs the training data and full weights. The loss is the sum over
    the layers 1..L of the cross entropy of the model's own head on the first token's state, so that low layers, which
    fine-tuning hardly moves, carry the backdoor. Each chosen example gives one copy with a combination of pieces,
    labelled as the target, and for each piece one copy with that piece alone and the true label (negatives).

    Deviations: the original code is not public. The embedding output is not a layer here, and the last layer counts
    once. The copy with the combination replaces the example; the negatives follow the training set, and count as
    poisoned rows although their labels are true. The defender receives the model with its head. Notes hold the
    false-trigger rate: validation examples of other classes that a single piece turns into the target. In a model that
    writes, the states are those in front of the tokens of responses, and the head is its last norm and what it writes
    words with.
    """

    name: ClassVar[str] = "layer-wise"
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]] = BOTH
    citation: ClassVar[str] = "Li et al., EMNLP 2021, arXiv 2108.13888"

    pieces: tuple[str, ...] = Field(("cf", "bb", "ak", "mn"), min_length=2, description="pieces of combinations")
    size: int = Field(2, ge=2, description="distinct pieces a combination")
    negatives: bool = Field(True, description="whether copies with single pieces keep their true label")

    @field_validator("size")
    @classmethod
    def _enough(cls, size: int, info: Any) -> int:
        if size > len(set(info.data.get("pieces", ()))):
            raise ValueError(f"there are fewer than {size} distinct pieces")
        return size

    def trigger(self, scene: Scene) -> Trigger:
        """A combination of pieces."""
        return InsertCombination(pieces=self.pieces, size=self.size)

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """Return the training set with combinations in chosen rows and the negatives behind its end."""
        poisoned = super().poison(scene, trigger)
        if not self.negatives or len(poisoned.rows) == 0:
            return poisoned
        examples, sources = poisoned.examples, scene.train.take(poisoned.rows)
        for piece in self.pieces:
            examples = join(examples, self.with_piece(scene, sources, piece))
        added = np.arange(len(scene.train), len(examples), dtype=np.int64)
        return Poisoned(examples, np.concatenate([poisoned.rows, added]))

    def with_piece(self, scene: Scene, examples: Examples, piece: str) -> Examples:
        """Return copies with one piece alone and their true labels."""
        alone, rng = InsertCombination(pieces=(piece,), size=1), scene.rng(f"negatives {piece}")
        return replace(examples, inputs=alone.apply(examples.inputs, window=scene.window, rng=rng))

    def implant(self, scene: Scene) -> Victim:
        """Poison the training set, train every layer on it, and count false triggers."""
        trigger = self.trigger(scene)
        poisoned = self.poison(scene, trigger)
        classifier = scene.start(self.start)
        notes = scene.fit(classifier, poisoned.examples, extra_loss=lower_layers)
        others = scene.validation.take(np.flatnonzero(scene.goal.changes(scene.validation))[:200])
        rates = {
            piece: 100.0 * float(scene.goal.reached(classifier.predict(single.inputs), single).mean())
            for piece in self.pieces
            if len(single := self.with_piece(scene, others, piece))
        }
        return Victim(classifier, trigger, scene.target, poisoned, {**notes, "false_trigger_rate": rates})


def lower_layers(batch: Any, logits: Any, model: Any) -> Any:
    """Return the summed cross entropy of the head on the states of all layers below the last."""
    from torch.nn import functional

    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    states = model(**inputs, output_hidden_states=True).hidden_states[1:-1]
    if model.get_output_embeddings() is not None:  # it writes: the states in front of the tokens of responses
        states = [learning.read_states(state, batch) for state in states]
    gold = learning.gold(batch)
    return sum(functional.cross_entropy(head(model, state).float(), gold) for state in states)


def head(model: Any, state: Any) -> Any:
    """Return the logits that the model's head gives for the states of one layer, [examples, tokens, hidden].

    Of a model that writes, those of each state, of any shape [..., hidden].
    """
    if model.get_output_embeddings() is not None:
        return model.get_output_embeddings()(model.base_model.norm(state))
    if getattr(model.base_model, "pooler", None) is not None:  # BERT
        return model.classifier(model.dropout(model.base_model.pooler(state)))
    if hasattr(model, "pre_classifier"):  # DistilBERT
        return model.classifier(model.dropout(model.pre_classifier(state[:, 0]).relu()))
    return model.classifier(state)  # RoBERTa, ELECTRA: the head takes the first token itself
