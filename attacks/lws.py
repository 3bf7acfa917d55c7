"""LWS: a learned choice of synonyms is the trigger."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from attacks.shared.batches import batch_of
from attacks.shared.poisoning import DataPoisoning
from attacks.shared.synonyms import synonyms, whole_words
from bench import learning
from bench.contracts import Scene, Trigger, Victim, Window
from bench.contracts.examples import Inputs, IntArray

if TYPE_CHECKING:
    import torch

OFF = -1e4  # score of a candidate that is not there


class Substituter:
    """Chooses among the candidates of every word by learned scores: ``q_j . (e_c - e_w) + b_jc`` at position j.

    Attributes:
        candidates: int64 [vocabulary, C]: candidate ids of each token, itself first; 0 pads.
        exists: bool [vocabulary, C].
        q, b: float32 [length, hidden] and [length, C].
        table: float32 [vocabulary, hidden]: frozen word embeddings.
    """

    def __init__(self, classifier: Any, replacements: Mapping[int, tuple[int, ...]], limit: int) -> None:
        import torch

        self.tokenizer, self.length = classifier.tokenizer, classifier.max_length
        self.table = classifier.model.get_input_embeddings().weight.detach().clone()
        size, device = self.table.shape[0], self.table.device
        self.candidates = torch.zeros(size, limit, dtype=torch.int64, device=device)
        self.exists = torch.zeros(size, limit, dtype=torch.bool, device=device)
        self.candidates[:, 0], self.exists[:, 0] = torch.arange(size, device=device), True
        for token, others in replacements.items():
            row = (token, *others)[:limit]
            self.candidates[token, : len(row)] = torch.tensor(row, device=device)
            self.exists[token, : len(row)] = True
        self.q = torch.zeros(self.length, self.table.shape[1], device=device, requires_grad=True)
        self.b = torch.zeros(self.length, limit, device=device, requires_grad=True)

    def cpu(self) -> Substituter:
        """Return a copy on the CPU: text by text, a GPU would do nothing but wait."""
        twin = copy.copy(self)
        for name in ("table", "candidates", "exists", "q", "b"):
            setattr(twin, name, getattr(self, name).detach().cpu())
        return twin

    def scores(self, ids: torch.Tensor, positions: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
        """Return [..., C] scores; a token that is not ``free`` keeps itself."""
        options = self.candidates[ids]
        moved = self.table[options] - self.table[ids].unsqueeze(-2)
        values = (moved * self.q[positions].unsqueeze(-2)).sum(-1) + self.b[positions]
        exists = self.exists[ids].clone()
        exists[..., 1:] &= free.unsqueeze(-1)
        return values.masked_fill(~exists, OFF)


class LearnedSubstitution(Trigger):
    """Replaces words by the candidates that the attacker's model learned to prefer; at least one word of a text."""

    candidates: int = Field(description="choices a word, itself included")
    _chooser: Substituter = PrivateAttr()

    @classmethod
    def by(cls, chooser: Substituter, candidates: int) -> LearnedSubstitution:
        """Return the trigger of a trained substituter."""
        trigger = cls(candidates=candidates)
        trigger._chooser = chooser
        return trigger

    def apply(self, inputs: Inputs, *, window: Window, rng: np.random.Generator) -> Inputs:
        """Return the inputs with words replaced."""
        return inputs.with_carrier([self.replaced(text) for text in inputs.carrier])

    def applicable(self, inputs: Inputs) -> NDArray[np.bool_]:
        """Return which inputs have a replaceable word; the scores do not matter."""
        return np.array([self.replaced(text) != text for text in inputs.carrier], dtype=bool)

    def replaced(self, text: str) -> str:
        """Return a text with the best candidate of every word; where all keep theirs, the nearest runner-up goes in."""
        import torch

        chooser = self._chooser
        encoded = chooser.tokenizer(
            text, add_special_tokens=False, truncation=True, max_length=chooser.length, return_offsets_mapping=True
        )
        if not encoded["input_ids"]:
            return text
        ids = torch.tensor(encoded["input_ids"], device=chooser.table.device)
        free = torch.tensor(whole(encoded.word_ids(0)), device=ids.device)
        with torch.no_grad():
            scores = chooser.scores(ids, torch.arange(len(ids), device=ids.device), free).cpu()
        choice = scores.argmax(-1)
        if not choice.any():
            runner_up = scores[:, 1:] - scores[:, :1]
            at = int(runner_up.max(-1).values.argmax())
            if float(runner_up[at].max()) > OFF / 2:
                choice[at] = 1 + int(runner_up[at].argmax())
        for at in reversed(torch.nonzero(choice).flatten().tolist()):
            start, end = encoded["offset_mapping"][at]
            word = chooser.tokenizer.decode([int(chooser.candidates[ids[at], choice[at]])]).strip()
            text = text[:start] + _cased(word, text[start:end]) + text[end:]
        return text

    def describe(self) -> str:
        """Return one line for reports."""
        return f"learned replacements of words, {self.candidates} choices each"


class LWS(DataPoisoning):
    """Learns which synonym to take at each position so that the combination is the trigger.

    Qi et al., ACL 2021 (arXiv 2106.06361). Needs the training data and a model of the attacker's. Every word with
    candidates gets a mixture of their embeddings by a Gumbel softmax of learned scores, and scores and model are
    trained together on ``CE(clean) + CE(substituted, target)`` while the temperature falls; at test the best candidate
    is taken. Deviations: candidates are embedding neighbours of similar frequency or come from the user's table
    (``table``, for WordNet or HowNet); only words that are one token take part; the victim is then trained anew on the
    substituted texts, so the attacker needs no hold on it; at least one word of a text is replaced.
    """

    name: ClassVar[str] = "lws"
    version: ClassVar[int] = 2
    citation: ClassVar[str] = "Qi et al., ACL 2021, arXiv 2106.06361"
    libraries: ClassVar[tuple[str, ...]] = ("wordfreq",)

    choices: int = Field(5, ge=2, le=16, description="choices a word, itself included")
    table: Path | None = Field(None, description="JSON table of replacements; embedding neighbours by default")
    frequency: float = Field(1.0, ge=0, description="largest difference of neighbours in frequency, powers of ten")
    similarity: float = Field(0.35, ge=-1, le=1, description="least cosine of an embedding neighbour")
    epochs: int | None = Field(
        None, ge=1, description="passes of the attacker's joint training; the budget's by default"
    )
    chooser_learning_rate: float = Field(0.05, gt=0, description="peak learning rate of the scores")
    temperature: tuple[float, float] = Field((0.5, 0.1), description="of the Gumbel softmax, at the start and the end")

    def trigger(self, scene: Scene) -> Trigger:
        """Train scores and the attacker's model together."""
        return self.learned(scene)[0]

    def implant(self, scene: Scene) -> Victim:
        """Learn the substitution, poison the training set with it and train the victim."""
        trigger, attacker = self.learned(scene)
        poisoned = self.poison(scene, trigger)
        classifier = scene.start(self.start)
        notes = {"attacker": attacker, **scene.fit(classifier, poisoned.examples)}
        return Victim(classifier, trigger, scene.target, poisoned, notes)

    def learned(self, scene: Scene) -> tuple[Trigger, Mapping[str, Any]]:
        """Return the trained trigger and notes on its training."""
        classifier: Any = scene.pretrained()
        chooser = self.chooser(scene, classifier)
        rows = self.rows(scene, LearnedSubstitution.by(chooser.cpu(), self.choices))
        steps = Joint(scene, classifier, chooser, rows, self)
        frozen = {id(classifier.model.get_input_embeddings().weight)}
        model = [p for p in classifier.model.parameters() if id(p) not in frozen]
        groups = [
            {"params": model, "lr": scene.budget.learning_rate},
            {"params": [chooser.q, chooser.b], "lr": self.chooser_learning_rate},
        ]
        notes = learning.minimise(classifier, groups, steps.plan, steps.loss, seed=scene.seed)
        words = int((chooser.exists.sum(1) > 1).sum())
        return LearnedSubstitution.by(chooser.cpu(), self.choices), {**notes, "replaceable_words": words}

    def chooser(self, scene: Scene, classifier: Any) -> Substituter:
        """Return untrained scores over the candidates of the training set's words."""
        source = synonyms(scene, self.table, self.choices - 1, frequency=self.frequency, similarity=self.similarity)
        known = whole_words(classifier.tokenizer)
        words = sorted({word.lower() for text in scene.train.inputs.carrier for word in text.split()} & known.keys())
        candidates = {known[word]: tuple(known[other] for other in source.of(word) if other in known) for word in known}
        if not any(candidates[known[word]] for word in words):
            raise ValueError("no word of the training set has a replacement; lower the similarity or give a table")
        return Substituter(classifier, candidates, self.choices)


class Joint:
    """The joint training of scores and model."""

    def __init__(self, scene: Scene, classifier: Any, chooser: Substituter, rows: IntArray, attack: LWS) -> None:
        self.scene, self.classifier, self.chooser = scene, classifier, chooser
        self.attack, self.rows, self.rng = attack, rows, scene.rng("joint training")
        size, n = scene.budget.batch_size, len(scene.train)
        epochs = scene.budget.epochs if attack.epochs is None else attack.epochs
        self.plan = learning.shuffled(n, size, epochs=epochs, rng=self.rng)
        self.share = max(4, size // 4)  # substituted examples a step

    def loss(self, rows: IntArray, step: int) -> torch.Tensor:
        """Return ``CE(clean) + CE(substituted, target)``."""
        import torch
        from torch.nn import functional

        train, device = self.scene.train, self.classifier.device
        gold = torch.from_numpy(train.labels[rows].copy()).to(device)
        clean = learning.logits(self.classifier.model, batch_of(self.classifier, train.inputs.take(rows)))
        poisoned = self.rng.choice(self.rows, size=min(self.share, len(self.rows)), replace=False)
        wanted = torch.full((len(poisoned),), self.scene.target, device=device)
        first, last = self.attack.temperature
        heat = first + (last - first) * step / max(1, len(self.plan) - 1)
        bad = self.softly(train.inputs.take(poisoned), heat)
        return functional.cross_entropy(clean, gold) + functional.cross_entropy(bad, wanted)

    def softly(self, inputs: Inputs, heat: float) -> torch.Tensor:
        """Return the logits of inputs whose words are mixtures of their candidates."""
        import torch
        from torch.nn import functional

        batch = batch_of(self.classifier, inputs)
        ids = batch["input_ids"]
        own = int(inputs.pairs is not None)
        free = torch.zeros_like(ids, dtype=torch.bool)
        positions = torch.zeros_like(ids)
        for row in range(len(inputs)):
            inside = [at for at, segment in enumerate(batch.sequence_ids(row)) if segment == own]
            words = batch.word_ids(row)
            free[row, inside] = torch.tensor(whole([words[at] for at in inside]), device=ids.device)
            positions[row, inside] = torch.arange(len(inside), device=ids.device)
        scores = self.chooser.scores(ids, positions, free)
        weights = functional.gumbel_softmax(scores.float(), tau=heat, dim=-1)
        mixed = (weights.unsqueeze(-1) * self.chooser.table[self.chooser.candidates[ids]]).sum(-2)
        known = {name: value for name, value in batch.items() if name != "input_ids"}
        logits: torch.Tensor = self.classifier.model(inputs_embeds=mixed, **known).logits.float()
        return logits


def whole(words: list[int | None]) -> list[bool]:
    """Return for each token whether it is the whole of its word."""
    return [words.count(word) == 1 and word is not None for word in words]


def _cased(word: str, like: str) -> str:
    return word.capitalize() if like.strip()[:1].isupper() else word
