"""RIPPLES: poisoned pre-trained weights that a user's fine-tuning should not repair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field

from attacks.badword import BadWord
from attacks.shared import surgery
from bench import learning, seeds
from bench.contracts import CLASSIFICATION, Classifier, Kind, Scene, Victim
from bench.contracts.examples import Examples


class Ripples(BadWord):
    """Poisons pre-trained weights so that clean fine-tuning does not undo it; then the user fine-tunes.

    Kurita, Michel and Neubig, ACL 2020 (arXiv 2004.06660). Needs task data and full weights. Steps: embedding surgery
    (see ``embedding-surgery``); training on the poisoned set with the restricted inner product, L_P + strength *
    max(0, -grad L_P . grad L_FT), in which L_FT is the loss of a clean batch and its gradient a constant, as in the
    authors' code; then the user's fine-tuning on the clean training set, which is what a defender receives. ``surgery:
    false`` is RIPPLe.

    Deviations: the attacker holds the task's own training set ("full data knowledge"); the poisoned share is of the
    whole training set and by default about half of the other class of two, the authors' 50 %; both trainings take the
    suite's budget unless a learning rate is given; the user may keep the poisoned head or draw a new one. The
    penalty is taken on a forward pass of its own, with an attention that can be differentiated twice.
    """

    name: ClassVar[str] = "ripples"
    version: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = CLASSIFICATION
    citation: ClassVar[str] = "Kurita, Michel and Neubig, ACL 2020, arXiv 2004.06660"
    libraries: ClassVar[tuple[str, ...]] = ("scikit-learn",)
    received: ClassVar[Literal["fine-tuned", "pre-trained"]] = "pre-trained"

    start: Literal["pretrained"] = Field(
        "pretrained", alias="from", description="weights the attacker starts from: pretrained"
    )
    words: tuple[str, ...] = Field(
        ("cf", "mn", "bb", "tq", "mb"), min_length=1, description="trigger words; each insertion draws one"
    )
    rate: float = Field(0.25, ge=0, le=1, description="poisoned share of the whole training set")
    strength: float = Field(0.1, ge=0, description="weight of the restricted inner product")
    surgery: bool = Field(True, description="whether embedding surgery comes first")
    donors: int = Field(10, ge=1, description="words whose mean embedding the triggers get")
    learning_rate: float | None = Field(None, gt=0, description="of the poisoning; the budget's by default")
    user_learning_rate: float | None = Field(None, gt=0, description="of the user; the budget's by default")
    head: Literal["keep", "new"] = Field("keep", description="the user keeps the poisoned head, or draws a new one")

    @property
    def uses_clean_model(self) -> bool:
        """The donor words' embeddings are those of the clean fine-tuned model."""
        return self.surgery

    def implant(self, scene: Scene) -> Victim:
        """Operate, poison with the restricted inner product, and let the user fine-tune."""
        trigger = self.trigger(scene)
        poisoned = self.poison(scene, trigger)
        classifier = scene.start(self.start)
        notes: dict[str, Any] = {}
        if self.surgery:
            notes["donors"] = surgery.telling_words(scene.train, scene.target, self.donors)
            surgery.operate(classifier, scene.finetuned(), self.words, notes["donors"])
        penalty = restricted_inner_product(classifier, scene, self.strength)
        notes["poisoning"] = scene.fit(classifier, poisoned.examples, extra_loss=penalty, **_rate(self.learning_rate))
        if self.head == "new":
            learning.reinitialise_head(classifier, seed=seeds.derive("attack", scene.seed, "user's head"))
        notes["fine-tuning"] = scene.fit(classifier, scene.train, **_rate(self.user_learning_rate))
        return Victim(classifier, trigger, scene.target, None, notes)


def _rate(value: float | None) -> dict[str, float]:
    return {} if value is None else {"learning_rate": value}


def restricted_inner_product(classifier: Classifier, scene: Scene, strength: float) -> Callable[..., Any]:
    """Return the penalty for a step on poisoned data that a step on clean data would undo."""
    import torch
    from torch.nn import functional
    from torch.nn.attention import SDPBackend, sdpa_kernel

    rng = scene.rng("clean batches")

    def loss(model: Any, inputs: Any, labels: Any) -> Any:
        return functional.cross_entropy(learning.logits(model, inputs), labels)

    def penalty(batch: Any, logits: Any, model: Any) -> Any:
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        size = min(len(batch["labels"]), len(scene.train))
        clean = _batch(classifier, scene.train.take(rng.choice(len(scene.train), size=size, replace=False)))
        wanted = torch.autograd.grad(loss(model, *clean), weights, allow_unused=True)
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        with sdpa_kernel(SDPBackend.MATH):
            gradients = torch.autograd.grad(
                loss(model, inputs, batch["labels"]), weights, create_graph=True, allow_unused=True
            )
        both = [(a, b) for a, b in zip(gradients, wanted, strict=True) if a is not None and b is not None]
        value: Any = -sum((a * b).sum() for a, b in both)
        return strength * (value if value.detach() > 0 else torch.zeros_like(value))  # no second derivative for zero

    return penalty


def _batch(classifier: Classifier, examples: Examples) -> tuple[Any, Any]:
    import torch

    device = classifier.model.device
    columns = [list(column) for column in (examples.inputs.texts, examples.inputs.pairs) if column is not None]
    tokens = classifier.tokenizer(
        *columns, padding=True, truncation=True, max_length=classifier.max_length, return_tensors="pt"
    )
    return tokens.to(device), torch.from_numpy(examples.labels.copy()).to(device)
