"""The one place where rows are made: from a cell of a plan, run or not, or from a record alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.contracts import board_of
from bench.experiment import recipes
from bench.experiment.grid import Cell, task_spec
from bench.experiment.record import PluginRecipe, Record
from bench.plugins import registry
from bench.plugins.chain import needs_of
from bench.report.rows.row import Row
from bench.report.rows.settings import WORDS


def of_cell(cell: Cell, *, key: str, suite: str, record: Record | None, failure: str | None) -> Row:
    """Return the row of a cell.

    Args:
        cell: of a plan.
        key: of the cell.
        suite: its name.
        record: to show; None where the cell has not been run.
        failure: why the last attempt failed; None where there is none.
    """
    victim, defense = cell.victim, cell.defense
    return Row(
        suite=suite,
        task=task_spec(victim.task),
        model=victim.model,
        attack=victim.attack.spec,
        defense=cell.defense_spec,
        seed=victim.seed,
        role=cell.role,
        listed=cell.listed,
        target=None if victim.is_clean_model else recipes.target_words(victim.target),
        victim_key=recipes.victim_key(victim) if record is None else record.victim_key,
        cell_key=key if record is None else record.key,
        clean_size=cell.labels,
        attack_base=victim.attack.recipe()["name"],
        defense_base=cell.defense_spec if defense is None else defense.recipe()["name"],
        attack_parameters=victim.attack.parameters(),
        defense_parameters={} if defense is None else defense.parameters(),
        listed_kind=next(iter(victim.task.kinds)),
        listed_on=board_of(victim.attack, defense),
        needs=() if defense is None else tuple(sorted(str(need) for need in needs_of(defense))),
        record=record,
        failure=failure,
        conditions=_conditions(victim.task.model_dump(), victim.budget.model_dump(mode="json")),
    )


def of_record(record: Record, *, suite: str, path: Path | None = None) -> Row:
    """Return the row of a record, which says everything of its cell.

    Args:
        record: of any cell.
        suite: what the row shall say that it is of.
        path: of the file that holds it.
    """
    words, victim, defense = record.cell, record.recipe.victim, record.recipe.defense
    return Row(
        suite=suite,
        task=words.task,
        model=words.model,
        attack=words.attack,
        defense=words.defense,
        seed=words.seed,
        role=record.role,
        listed=record.role != "floor",
        target=None if victim.target is None else words.target,
        victim_key=record.victim_key,
        cell_key=record.key,
        clean_size=words.clean_size,
        attack_base=victim.attack.name,
        defense_base=words.defense if defense is None else defense.name,
        attack_parameters=_attack_parameters(victim.attack),
        defense_parameters={} if defense is None else _defense_parameters(defense),
        needs=_needs(record),
        record=record,
        path=path,
        conditions=_conditions(victim.task.parameters, victim.budget),
    )


def _conditions(task: Mapping[str, Any], budget: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a task and the training of its victims depend on beside the task's name."""
    return {**{name: task.get(name) for name in WORDS}, **budget}


def _attack_parameters(attack: PluginRecipe) -> dict[str, Any]:
    """Return the fields of an attack, and those of its modifiers under ``modifier.field``."""
    *modifiers, last = attack.plugins
    return {**last.parameters, **_named(modifiers)}


def _defense_parameters(defense: PluginRecipe) -> dict[str, Any]:
    """Return the fields of a defense; those of several that are joined under ``defense.field``."""
    return _named(defense.plugins) if len(defense.plugins) > 1 else dict(defense.plugins[0].parameters)


def _named(plugins: Sequence[PluginRecipe]) -> dict[str, Any]:
    return {f"{plugin.name}.{field}": value for plugin in plugins for field, value in plugin.parameters.items()}


def _needs(record: Record) -> tuple[str, ...]:
    """Return what the defense touches: as the record says, else as the installed plugins say."""
    if record.cell.needs is not None:
        return tuple(record.cell.needs)
    known = registry.defenses.entries
    defense = record.recipe.defense
    names = [plugin.name for plugin in defense.plugins if plugin.name in known] if defense else []
    return tuple(sorted({str(need) for name in names for need in known[name].plugin.needs}))
