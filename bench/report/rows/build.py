"""The one place where rows are made: from a cell of a plan, run or not, or from a record alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.contracts import Board, Defense, board_of
from bench.experiment import recipes
from bench.experiment.grid import Cell, VictimSpec, task_spec
from bench.experiment.kept import AnyRecord
from bench.experiment.record import PluginRecipe, Record
from bench.plugins import registry
from bench.plugins.chain import needs_of
from bench.report.rows.row import Row
from bench.report.rows.settings import WORDS


def of_cells(
    cells: Mapping[str, Cell], *, suite: str, records: Mapping[str, AnyRecord], failures: Mapping[str, str]
) -> Iterator[Row]:
    """Yield the row of every cell. What cells of one victim or one defense have in common is said once.

    Args:
        cells: of a plan, by key.
        suite: its name.
        records: to show, by the key of the cell; none where the cell has not been run.
        failures: why the last attempt failed, by the key of the cell.
    """
    victims: dict[VictimSpec, Row] = {}  # what their cells have in common
    defenses: dict[int, dict[str, Any]] = {}  # by identity: a plan has one object for each
    boards: dict[tuple[int, int], Board] = {}
    for key, cell in cells.items():
        victim, defense, record = cell.victim, cell.defense, records.get(key)
        if (of_victim := victims.get(victim)) is None:
            of_victim = victims[victim] = _any_cell_of(victim, suite)
        if (of_defense := defenses.get(id(defense))) is None:
            of_defense = defenses[id(defense)] = {} if defense is None else _of_defense(defense)
        if (board := boards.get((id(victim.attack), id(defense)))) is None:
            board = boards[id(victim.attack), id(defense)] = board_of(victim.attack, defense)
        spec = cell.defense_spec
        row = of_victim.renamed(
            defense=spec,
            role=cell.role,
            listed=cell.listed,
            cell_key=key if record is None else record.key,
            clean_size=cell.labels,
            listed_on=board,
            record=record,
            failure=failures.get(key),
            **({"defense_base": spec} | of_defense),
        )
        yield row if record is None else row.renamed(victim_key=record.victim_key)


def _any_cell_of(victim: VictimSpec, suite: str) -> Row:
    return Row(suite=suite, defense="", role="victim", cell_key="", clean_size=0, **_of_victim(victim))


def words_of(cells: Mapping[str, Cell]) -> Iterator[dict[str, Any]]:
    """Yield what rows say of the victims and the defenses of cells, each once, as JSON values."""
    victims: dict[VictimSpec, None] = dict.fromkeys(cell.victim for cell in cells.values())
    defenses = {id(cell.defense): cell.defense for cell in cells.values() if cell.defense is not None}
    attacks = {id(victim.attack): victim.attack for victim in victims}
    for victim in victims:
        yield {**_of_victim(victim), "target_recipe": str(victim.target)}
    for defense in defenses.values():
        yield {**_of_defense(defense), "spec": defense.spec}
    for attack in attacks.values():
        yield {"boards": [str(board_of(attack, defense)) for defense in (None, *defenses.values())]}


def _of_victim(victim: VictimSpec) -> dict[str, Any]:
    return {
        "task": task_spec(victim.task),
        "model": victim.model,
        "attack": victim.attack.spec,
        "seed": victim.seed,
        "target": None if victim.is_clean_model else recipes.target_words(victim.target),
        "victim_key": recipes.victim_key(victim),
        "attack_base": victim.attack.recipe()["name"],
        "attack_parameters": victim.attack.parameters(),
        "listed_kind": next(iter(victim.task.kinds)),
        "conditions": _conditions(victim.task.model_dump(), victim.budget.model_dump(mode="json")),
    }


def _of_defense(defense: Defense) -> dict[str, Any]:
    return {
        "defense_base": defense.recipe()["name"],
        "defense_parameters": defense.parameters(),
        "needs": tuple(sorted(str(need) for need in needs_of(defense))),
    }


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
