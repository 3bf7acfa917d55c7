"""Attacks with modifiers: ``anchored+badword`` is BadWord with logit anchoring while it trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar

from bench.contracts import Attack, Classifier, Hooks, Modifier, Poisoned, Scene, Target, TaskFacts, Trigger, Victim
from bench.contracts.examples import Examples
from bench.errors import RequestError
from bench.plugins import registry
from bench.suites import specs


class Modified(Attack):
    """An attack whose training its modifiers change; the one written first is applied last."""

    name: ClassVar[str] = "modified"
    modifiers: tuple[Modifier, ...]
    attack: Attack

    def model_post_init(self, _context: Any, /) -> None:
        """What the class of an attack says, this one says as the attack does that it modifies."""
        for name in ("received", "in_words"):
            object.__setattr__(self, name, getattr(self.attack, name))
        kinds = self.attack.kinds.intersection(*(part.kinds for part in self.modifiers))
        object.__setattr__(self, "kinds", kinds)

    @property
    def title(self) -> str:
        """The names joined by ``+``."""
        return "+".join([*(part.name for part in self.modifiers), self.attack.name])

    @cached_property
    def spec(self) -> str:
        """The modifiers and the attack joined by ``+``."""
        return "+".join([*(part.spec for part in self.modifiers), self.attack.spec])

    def parameters(self) -> dict[str, Any]:
        """The fields of the attack as it is carried out, and those of the modifiers under ``modifier.field``."""
        of_modifiers = {
            f"{part.name}.{field}": value for part in self.modifiers for field, value in part.parameters().items()
        }
        return {**self.started.parameters(), **of_modifiers}

    def recipe(self) -> dict[str, Any]:
        """The recipes of the modifiers, then that of the attack."""
        return {"name": self.title, "parts": [part.recipe() for part in (*self.modifiers, self.attack)]}

    @property
    def uses_clean_model(self) -> bool:
        """Whether the attack or a modifier reads the clean fine-tuned model."""
        return self.started.uses_clean_model or any(part.uses_clean_model for part in self.modifiers)

    @property
    def started(self) -> Attack:
        """The attack, from the weights that its modifiers want."""
        attack = self.attack
        for part in reversed(self.modifiers):
            attack = attack.model_copy(update={"start": part.starts(attack)})
        return attack

    def skip(self, facts: TaskFacts) -> str | None:
        """The reason of the attack, or the first one of a modifier."""
        reasons = (part.skip(facts, self.attack) for part in self.modifiers)
        return self.attack.skip(facts) or next((reason for reason in reasons if reason), None)

    def skip_target(self, target: Target) -> str | None:
        """The reason of the attack."""
        return self.attack.skip_target(target)

    def files(self, facts: TaskFacts) -> tuple[Any, ...]:
        """The files that the attack reads."""
        return self.attack.files(facts)

    def trigger(self, scene: Scene) -> Trigger | None:
        """The trigger of the attack."""
        return self.attack.trigger(scene)

    def poison(self, scene: Scene, trigger: Trigger | None) -> Poisoned:
        """The training set as the attack poisons it."""
        return self.attack.poison(scene, trigger)

    def implant(self, scene: Scene) -> Victim:
        """Implant the attack in a scene whose training has the hooks of the modifiers in it."""
        trigger, changed = self.attack.trigger(scene), scene
        for part in reversed(self.modifiers):
            factor = part.learning_rate_multiplier
            changed = hooked(changed, partial(part.hooks, scene, trigger), learning_rate_multiplier=factor)
        return self.started.implant(changed)


def modified(entry: str | Mapping[str, Any]) -> Attack:
    """Build an attack, or one with modifiers joined by ``+``; in a mapping the fields belong to the last part."""
    fields: Mapping[str, Any] = {}
    if isinstance(entry, str):
        parts = specs.split_top(entry, "+")
    else:
        name, fields = specs.parse_entry(entry, "attack")
        parts = specs.split_top(name, "+")
    *first, last = parts
    modifiers = [registry.modifiers.create(part) for part in first]
    ending = {"name": last, **fields} if fields else last
    if specs.parse_entry(ending, "attack")[0] in registry.modifiers.entries:
        modifiers.append(registry.modifiers.create(ending))
        attack = registry.attacks.create(modifiers[-1].default)
    else:
        attack = registry.attacks.create(ending)
    if not modifiers:
        return attack
    names = [part.name for part in modifiers]
    if len(set(names)) < len(names):
        raise RequestError(f"a modifier is named twice in {'+'.join([*names, attack.name])!r}.")
    return Modified(modifiers=tuple(modifiers), attack=attack)


def hooked(scene: Scene, hooks: Callable[[Classifier, int], Hooks], *, learning_rate_multiplier: float = 1.0) -> Scene:
    """Return the scene with more hooks in every training, after those of the attack and those already there.

    Args:
        scene: of the attack.
        hooks: call for them with a classifier and a number of steps.
        learning_rate_multiplier: factor on the learning rate of every training that goes through ``scene.fit``.
    """

    def joined(classifier: Classifier, steps: int) -> Hooks:
        return both(scene.hooks(classifier, steps), hooks(classifier, steps))

    def fit(classifier: Classifier, examples: Examples, **options: Any) -> Mapping[str, Any]:
        own = Hooks(options.pop("extra_loss", None), options.pop("after_step", None))
        together = both(own, hooks(classifier, steps_of(scene, len(examples), options)))
        options["learning_rate"] = learning_rate_multiplier * options.get("learning_rate", scene.budget.learning_rate)
        return scene.fit(
            classifier, examples, extra_loss=together.extra_loss, after_step=together.after_step, **options
        )

    return replace(scene, fit=fit, hooks=joined)


def steps_of(scene: Scene, examples: int, options: Mapping[str, Any]) -> int:
    """Return how many steps a training with these options takes, at most."""
    settings = {**scene.budget.model_dump(), **options}
    if settings.get("steps") is not None:
        return int(settings["steps"])
    return int(settings["epochs"]) * math.ceil(examples / int(settings["batch_size"]))


def both(first: Hooks, second: Hooks) -> Hooks:
    """Return hooks that do what both do, the first one first."""
    return Hooks(_sum(first.extra_loss, second.extra_loss), _sequence(first.after_step, second.after_step))


def _sum(first: Any, second: Any) -> Any:
    if first is None or second is None:
        return first or second
    return lambda batch, logits, model: first(batch, logits, model) + second(batch, logits, model)


def _sequence(first: Any, second: Any) -> Any:
    if first is None or second is None:
        return first or second

    def run(model: Any, step: int) -> None:
        first(model, step)
        second(model, step)

    return run
