"""Cells made again from the recipes in their records, without data, models or a suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from bench.contracts import Attack, Budget, Defense, Plugin
from bench.errors import RequestError
from bench.experiment import recipes
from bench.experiment.grid import Cell, VictimSpec
from bench.experiment.record import CellRecipe, PluginRecipe, VictimRecipe
from bench.keys import key_of
from bench.plugins import registry
from bench.plugins.chain import Chain
from bench.plugins.modified import Modified

OF_ONE_MACHINE = {"fingerprint", "libraries", "files", "version", "rooms", "reference", "schema"}


def cell_of(recipe: CellRecipe) -> Cell:
    """Return the cell of a recipe; its model has the name that the recipe gives.

    Raises:
        RequestError: this version has no such cell, or lacks a plugin.
    """
    if recipe.labels is None:
        raise RequestError("it is of an earlier protocol.")
    defense = None if recipe.defense is None else _defense(recipe.defense)
    measures = tuple(_plugin("measure", measure) for measure in recipe.measures)
    samples = recipe.labels, recipe.tolerance
    return Cell(victim_of(recipe.victim), recipe.role, defense, *samples, listed=True, measures=measures)


def victim_of(recipe: VictimRecipe) -> VictimSpec:
    """Return the description of a model, given its recipe."""
    try:
        budget = Budget(**recipe.budget)
    except ValidationError as error:
        raise RequestError(f"its budget is not valid: {error.errors()[0]['msg']}.") from None
    return VictimSpec(
        task=_plugin("task", recipe.task),
        model=recipe.model.name,
        attack=_attack(recipe.attack),
        seed=recipe.seed,
        target=_plugin("payload", recipe.target) if isinstance(recipe.target, PluginRecipe) else recipe.target or 0,
        budget=budget,
        part=(recipe.part[0], recipe.part[1]) if recipe.part and len(recipe.part) == 2 else None,
        head=recipe.head,
    )


def outline_of_cell(cell: Cell) -> str:
    """Return what names a cell on every machine: 64 hexadecimal digits; neither data nor a model is read for it."""

    def of(spec: VictimSpec) -> Mapping[str, Any]:
        machine: dict[str, Any] = {"task": spec.task.recipe(), "model": {"name": spec.model}}
        return recipes.victim_recipe_with(spec, **machine, files={}, libraries={})

    return outline(recipes.cell_recipe(cell, of, lambda measure: measure.recipe()))


def outline(recipe: Mapping[str, Any]) -> str:
    """Return the same for the recipe in a record."""
    return key_of(_anywhere(recipe))


def _anywhere(value: Any) -> Any:
    """Leave out what depends on versions, data and machine; a model keeps the last part of its name."""
    if isinstance(value, list | tuple):
        return [_anywhere(inner) for inner in value]
    if not isinstance(value, Mapping):
        return value
    kept = {name: inner for name, inner in value.items() if name not in OF_ONE_MACHINE}
    if "model" in kept:
        kept["model"] = str(kept["model"]["name"]).rpartition("/")[2]
    return {name: inner if name in ("parameters", "budget") else _anywhere(inner) for name, inner in kept.items()}


def _plugin(kind: str, recipe: PluginRecipe) -> Any:
    made: Plugin = registry.build(registry.by_kind[kind].get(recipe.name), recipe.parameters)
    return made


def _attack(recipe: PluginRecipe) -> Attack:
    *modifiers, attack = recipe.plugins
    made: Attack = _plugin("attack", attack)
    if not modifiers:
        return made
    return Modified(modifiers=tuple(_plugin("modifier", part) for part in modifiers), attack=made)


def _defense(recipe: PluginRecipe) -> Defense:
    parts = tuple(_plugin("defense", part) for part in recipe.plugins)
    made: Defense = parts[0] if len(parts) == 1 else Chain(parts=parts)
    return made
