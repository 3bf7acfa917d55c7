"""A suite ready to run: cells with their keys, and the jobs that make their records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bench.contracts import Kind, TaskSource
from bench.errors import RequestError
from bench.experiment import costs, recipes
from bench.experiment.grid import Cell, Grid, VictimSpec
from bench.experiment.skips import skip_reason
from bench.suites.suite import Suite

if TYPE_CHECKING:
    from bench.runner import Job

MOST_CELLS = 1_000_000  # without being asked twice; each takes a few kilobytes here before any is run
EXAMPLES_PER_SECOND = 100.0  # trained ones; a first guess for the order of jobs; measured durations replace it


def started_from(spec: VictimSpec) -> tuple[VictimSpec, ...]:
    """Return the model that has to be there before a victim can be trained, if there is one."""
    return (spec.clean_model,) if spec.attack.uses_clean_model and not spec.is_clean_model else ()


def _classes(source: TaskSource) -> int:
    return len(recipes.task_of(source).facts.labels)


@dataclass(frozen=True)
class Plan:
    """The cells of a suite by their keys. Making them loads the data and hashes the pre-trained weights.

    Attributes:
        suite: what to run.
        limit: most cells that are made; None for any number of them.
    """

    suite: Suite
    limit: int | None = MOST_CELLS

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Every cell once; one that the suite lists counts as listed.

        Raises:
            RequestError: there are more than the limit.
        """
        grid = Grid(self.suite, _classes)
        if self.limit is not None and grid.size > self.limit:
            excess = f"suite {self.suite.name}: {grid.size:,} cells, which is more than {self.limit:,}"
            raise RequestError(f"{excess}; look for a typing error in its axes, or say --yes (in Python: yes=True).")
        cells: dict[str, Cell] = {}
        key_of = recipes.CellKeys()
        for cell in grid.cells():
            key = key_of(cell)
            if key not in cells or (cell.listed and not cells[key].listed):
                cells[key] = cell
        return cells

    def check_models(self) -> None:
        """Refuse a model that is not sound, takes fewer tokens than a task wants, or has the name of another one."""
        called: dict[str, str] = {}
        for name in self.suite.model:
            before = called.setdefault(recipes.model_of(name).name, name)
            if before != name and recipes.model_of(before).path != recipes.model_of(name).path:
                what = f"tables would call both {recipes.model_of(name).name}"
                raise RequestError(f"models {before} and {name}: {what}; rename one of the folders.")
        for task in Grid(self.suite).tasks:
            for name in self.suite.model:
                recipes.model_of(name).check(tokens=recipes.task_of(task).facts.max_length)

    @cached_property
    def skipped(self) -> frozenset[str]:
        """The keys of the cells that make no sense."""
        reasons: dict[tuple[object, ...], str | None] = {}  # neither seeds nor models matter, nor does the role
        keys = set()
        for key, cell in self.cells.items():
            victim = cell.victim
            alike = id(victim.task), id(victim.attack), victim.target, id(cell.defense), cell.labels
            if alike not in reasons:
                reasons[alike] = skip_reason(cell)
            if reasons[alike] is not None:
                keys.add(key)
        return frozenset(keys)

    @cached_property
    def jobs(self) -> list[Job]:
        """The victims that are needed, then the cells."""
        return [*self._victim_jobs(), *self._cell_jobs()]

    @cached_property
    def victims(self) -> dict[str, VictimSpec]:
        """Every victim that a cell needs, by key."""
        needed: dict[str, VictimSpec] = {}
        known: set[VictimSpec] = set()
        for key, cell in self.cells.items():
            if key not in self.skipped and (cell.victim not in known or cell.wants_others):
                known.add(cell.victim)
                others = [need for spec in cell.others.values() for need in (*started_from(spec), spec)]
                for spec in (cell.victim, cell.victim.clean_model, *others):
                    needed.setdefault(recipes.victim_key(spec), spec)
        return needed

    def _victim_jobs(self) -> Iterator[Job]:
        from bench.runner import Job

        for key, spec in self.victims.items():
            yield Job(
                key=key,
                kind="victim",
                needs=tuple(recipes.victim_key(need) for need in started_from(spec)),
                cost=costs.of_victim(spec) / EXAMPLES_PER_SECOND,
                label=spec.label,
                payload=spec,
                made_with=recipes.made_with(spec),
            )

    def _cell_jobs(self) -> Iterator[Job]:
        from bench.runner import Job

        victims: dict[VictimSpec, tuple[tuple[str, ...], Kind, float, Mapping[str, str]]] = {}
        defenses: dict[tuple[int, Kind], float] = {}  # by identity: a grid has many cells of few defenses
        for key, cell in self.cells.items():
            if (known := victims.get(cell.victim)) is None:
                task = recipes.task_of(cell.victim.task)
                kind, judging = task.facts.kind, costs.of_judging(task.facts.kind, len(task.test))
                known = (recipes.victim_key(cell.victim),), kind, judging, recipes.made_with(cell.victim)
                victims[cell.victim] = known
            needs, kind, cost, made_with = known
            if (defending := defenses.get((id(cell.defense), kind))) is None:
                defending = defenses[id(cell.defense), kind] = costs.of_defense(cell.defense, kind)
            cost = (cost + defending) / EXAMPLES_PER_SECOND
            if key in self.skipped:
                needs, cost = (), 0.0
            elif cell.role == "floor" or cell.wants_others:
                more = (cell.victim.clean_model,) if cell.role == "floor" else ()
                needs = (*needs, *map(recipes.victim_key, (*more, *cell.others.values())))
            yield Job(key=key, kind="cell", needs=needs, cost=cost, label=cell.label, payload=cell, made_with=made_with)


def plan_of(suite: Suite, *, yes: bool) -> Plan:
    """Return the plan of a suite; with ``yes`` of any number of cells."""
    return Plan(suite, None if yes else MOST_CELLS)
