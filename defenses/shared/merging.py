"""What all defenses that merge the victim with other models share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from bench.contracts import Classifier, Defense, Other
from bench.plugins import registry

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Merging(Defense):
    """Which other models there are. Not a defense by itself.

    The defender has models that others fine-tuned for the task, from the same pre-trained weights, and does not know
    which of them to trust. Model i is trained by the suite with the i-th attack of ``models`` and the victim's seed +
    1 + i; its attacker aims at the victim's target, the worst case. ``data: disjoint`` gives each a part of the
    training set of its own; the victim's own training set, which its attacker chose, is not known to be disjoint from
    them. ``head: shared`` initialises their heads as the victim's, as the
    authors of these methods do by using one seed; ``own`` is harder, because heads that start apart do not average.
    The default is one clean model and one that carries another backdoor: with clean models only
    (``models: [clean, clean]``) the result says little, because a defender who knows a clean model of the task needs
    no defense. ASR is that of the victim's trigger; a backdoor that comes in with another model is not measured.
    """

    models: tuple[str, ...] = Field(
        ("clean", "badword(words=['bb'])"), min_length=1, max_length=8, description="attack of each other model"
    )
    data: Literal["disjoint", "whole"] = Field(
        "disjoint", description="training set of the others: disjoint parts, at most one half each, or all of it"
    )

    head: Literal["shared", "own"] = Field("shared", description="how the heads of the others are initialised")

    @field_validator("models")
    @classmethod
    def _known(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(registry.attacks.create(model).spec for model in models)

    def others(self) -> tuple[Other, ...]:
        """One model for each attack."""
        parts = max(2, len(self.models))
        return tuple(
            Other(attack, 1 + i, (i, parts) if self.data == "disjoint" else None, self.head == "shared")
            for i, attack in enumerate(self.models)
        )

    def other_models(self, access: Access) -> list[Classifier]:
        """Return the other models in order."""
        models = access.other_models
        return [models[other] for other in self.others()]


def weights_of(classifier: Classifier) -> dict[str, Any]:
    """Return every trainable tensor by name, without copying."""
    return {name: parameter.data for name, parameter in classifier.model.named_parameters()}


def put(classifier: Classifier, weights: Mapping[str, Any]) -> None:
    """Copy tensors into a classifier."""
    for name, tensor in weights_of(classifier).items():
        if name in weights:
            tensor.copy_(weights[name])
