"""Defenses in a row: ``e-pur+fine-tuning`` purifies the embeddings, then fine-tunes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from bench.contracts import Defended, Defense, Detector, Kind, Needs, Other, TaskFacts
from bench.errors import RequestError
from bench.plugins import registry
from bench.suites import specs

if TYPE_CHECKING:
    from bench.contracts.access import Access


class Chain(Defense):
    """Applies its parts in order, each to the classifier that the one before returns."""

    name: ClassVar[str] = "chain"
    parts: tuple[Defense, ...]

    def model_post_init(self, _context: Any, /) -> None:
        """Take the last part's kind, as it decides what the result is; training if a part trained what comes out.

        A chain touches what any part touches.
        """
        last = self.parts[-1]
        object.__setattr__(self, "kind", "training" if last.purifies and trains(self) else last.kind)
        object.__setattr__(self, "needs", frozenset().union(*(part.needs for part in self.parts)))
        object.__setattr__(self, "kinds", frozenset(Kind).intersection(*(part.kinds for part in self.parts)))

    @cached_property
    def spec(self) -> str:
        """The parts joined by ``+``."""
        return "+".join(part.spec for part in self.parts)

    def others(self) -> tuple[Other, ...]:
        """The models that any part wants."""
        return tuple(other for part in self.parts for other in part.others())

    def parameters(self) -> dict[str, Any]:
        """The fields of every part, under ``part.field``."""
        return {f"{part.name}.{field}": value for part in self.parts for field, value in part.parameters().items()}

    def recipe(self) -> dict[str, Any]:
        """The recipes of the parts, in order."""
        return {"name": "+".join(part.name for part in self.parts), "parts": [part.recipe() for part in self.parts]}

    def skip(self, facts: TaskFacts) -> str | None:
        """The first reason of a part."""
        return next((reason for part in self.parts if (reason := part.skip(facts))), None)

    def defend(self, classifier: Any, access: Access) -> Defended:
        """Run the parts; their notes are kept under their names, the last one's also at the top."""
        notes: dict[str, Any] = {}
        defended = Defended(classifier)
        for part in self.parts:
            defended = part.defend(defended.classifier, access.narrowed(part.needs))
            notes[part.name] = dict(defended.notes)
        defended.notes = {**defended.notes, "parts": notes}
        return defended


def chain(entry: str | Mapping[str, Any]) -> Defense:
    """Build a defense, or a chain of defenses joined by ``+``; in a mapping the fields belong to the last part."""
    if isinstance(entry, str):
        names = specs.split_top(entry, "+")
        if len(names) > 1 and not all(names):
            raise RequestError(f"cannot read {entry!r}: nothing stands before or behind a +.")
        parts = [registry.defenses.create(name) for name in names]
    else:
        name, fields = specs.parse_entry(entry, "defense")
        *first, last = specs.split_top(name, "+")
        parts = [
            *(registry.defenses.create(part) for part in first),
            registry.defenses.create({"name": last, **fields}),
        ]
    for part in parts[:-1]:
        if not part.purifies:
            raise RequestError(f"{part.name!r} does not return plain weights, so nothing can follow it; put it last.")
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[-1], Detector):
        raise RequestError(f"{parts[-1].name!r} judges a model as it was received; it stands alone.")
    return Chain(parts=tuple(parts))


def parts_of(defense: Defense) -> tuple[Defense, ...]:
    """The parts of a chain; any other defense is its own only part."""
    return defense.parts if isinstance(defense, Chain) else (defense,)


def trains(defense: Defense) -> bool:
    """Whether a part trains a model of its own on received data, so that nothing of the received model is left."""
    return any(part.kind == "training" for part in parts_of(defense))


def needs_of(defense: Defense) -> frozenset[Needs]:
    """What a defense touches; of a chain, what any part touches."""
    return defense.needs
