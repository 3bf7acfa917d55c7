"""Why a cell is not judged: the reason stands in its record, so that no table has a hole."""

from __future__ import annotations

from collections.abc import Collection

from bench.contracts import Attack, Defense, Kind, Needs, Payload, Target, TaskFacts
from bench.contracts.kind import in_words
from bench.experiment import recipes
from bench.experiment.grid import Cell
from bench.experiment.stored_victims import StoredVictim
from bench.plugins.chain import needs_of, trains
from bench.plugins.modified import Modified


def skip_reason(cell: Cell) -> str | None:
    """Return why a cell makes no sense, or None."""
    task = recipes.task_of(cell.victim.task)
    attack = cell.victim.attack
    if reason := other_kind(attack.spec, attack.kinds, task.facts) or attack.skip(task.facts):
        return reason
    if not cell.victim.is_clean_model and (reason := no_target(cell.victim.target, task.facts, attack)):
        return reason
    if cell.defense is None:
        return None
    if reason := other_kind(cell.defense.spec, cell.defense.kinds, task.facts):
        return reason
    for other in cell.others.values():
        if reason := other.attack.skip(task.facts):
            return f"another model is wanted, trained with {other.attack.spec}: {reason}"
    if cell.labels > len(task.validation):
        return f"{cell.labels} clean labels wanted, {len(task.validation)} in the validation split"
    return repeats(cell.victim.attack, cell.defense) or cell.defense.skip(task.facts)


def other_kind(name: str, kinds: Collection[Kind], facts: TaskFacts) -> str | None:
    """Return why a plugin makes no sense where it works on other kinds of model than the task is for."""
    if facts.kind in kinds:
        return None
    return f"{name} is for {in_words(kinds)}; {facts.name} is a task for {facts.kind}"


def no_target(target: Target, facts: TaskFacts, attack: Attack) -> str | None:
    """Return why a target makes no sense on a task, or for an attack."""
    if isinstance(target, Payload):
        reason = other_kind(f"the payload {target.spec}", target.kinds, facts) or target.skip(facts)
        return reason or attack.skip_target(target)
    if facts.kind != Kind.CLASSIFICATION:
        return f"target {target} is a label; name a payload, such as --set target=refusal"
    return None if 0 <= target < len(facts.labels) else f"target {target} is not a label of {facts.name}"


def repeats(attack: Attack, defense: Defense) -> str | None:
    """Return why a cell would count another's numbers again: a defender who trains never sees what modifiers change."""
    if isinstance(attack, Modified) and trains(defense):
        return f"{attack.spec} leaves the same training set as {attack.attack.spec}: see the cells of that attack"
    return None


def no_training_set(cell: Cell, stored: StoredVictim) -> str | None:
    """Return why a training-time defense cannot be judged: the attacker poisoned weights and hands over no data."""
    if cell.defense is None or Needs.TRAINING_SET not in needs_of(cell.defense):
        return None
    poisoned = stored.poison is not None or cell.victim.is_clean_model
    return None if poisoned else f"{cell.victim.attack.name} leaves no poisoned training set"


def no_trigger(cell: Cell, stored: StoredVictim) -> str | None:
    """Return why an oracle cannot be judged: there is no trigger, or none that can be applied to other texts."""
    if cell.defense is None or Needs.ORACLE not in needs_of(cell.defense) or stored.about["trigger_kind"] is not None:
        return None
    return f"{cell.victim.attack.name} has no trigger that can be put into other texts"
