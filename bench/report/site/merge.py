"""Several suites as one: which cells are the same, and which only look alike."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from bench.experiment.roles import DEFENDED
from bench.report.rows.row import Row
from bench.report.rows.settings import disambiguate_tasks
from bench.suites.suite import Gate

Seeds = dict[object, set[int]]  # by line


@dataclass(frozen=True)
class Source:
    """The results of one suite.

    Attributes:
        name: of the suite.
        rows: every cell, floors and ceilings included.
        gate: when an attack counts as implanted.
        examples: for cells of models that write, by key: ``prompt``, ``triggered``, ``reference``, and the responses
            ``said`` and ``said_triggered``.
        tasks: for tasks on files, by name: ``what`` they are, their ``source`` and ``licence``.
    """

    name: str
    rows: Sequence[Row]
    gate: Gate = Gate()
    examples: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)
    tasks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def strictest(gates: Iterable[Gate]) -> Gate:
    """Return the gate that lets pass only what all of them let pass."""
    gates = list(gates) or [Gate()]
    return Gate(
        min_asr=max(gate.min_asr for gate in gates),
        max_acc_drop=min(gate.max_acc_drop for gate in gates),
        max_ftr=min(gate.max_ftr for gate in gates),
        min_skill=max(gate.min_skill for gate in gates),
    )


def merged(sources: Iterable[Source]) -> list[Row]:
    """Return the rows of all suites, each cell once in each setting that it belongs to.

    Tasks of one name and several sizes or training budgets are told apart by these. A suite has a task to itself, with
    the suite's name in brackets, where its cells cannot stand beside those that are there: it calls something else by
    the same name (a defense with another tolerance), or it ran other seeds, so that a defense that is finished in one
    of the suites would be incomplete in both together. Such a suite keeps all of its cells, also those that are in
    another one: a baseline stands in both settings.
    """
    kept: dict[tuple[str, str], Row] = {}  # by task and key of the cell
    for source in _named_apart(_disambiguated(list(sources))):
        apart = _clashing(kept.values(), source.rows) | _incomplete_together(kept.values(), source.rows)
        for row in source.rows:
            placed = replace(row, task=f"{row.task} [{source.name}]") if row.task in apart else row
            place = placed.task, placed.cell_key
            before = kept.get(place)
            if before is None or (placed.record is not None and before.record is None):
                kept[place] = placed
            elif placed.listed and not before.listed:
                kept[place] = replace(before, listed=True)
    return list(kept.values())


def _clashing(before: Iterable[Row], rows: Iterable[Row]) -> set[str]:
    """Return the tasks on which one name stands for two cells."""
    known = {_name(row): row.cell_key for row in before}
    return {row.task for row in rows if known.get(_name(row), row.cell_key) != row.cell_key}


def _incomplete_together(before: Iterable[Row], rows: Iterable[Row]) -> set[str]:
    """Return the tasks on which a defense has all seeds of its own suite, and not all of both, on the same board."""
    first, second = _seeds_by_place(before), _seeds_by_place(rows)
    return {place[0] for place in first.keys() & second.keys() if _loses(first[place], second[place])}


def _loses(first: Seeds, second: Seeds) -> bool:
    together = {line: first.get(line, set()) | second.get(line, set()) for line in (*first, *second)}
    complete = _complete(first) | _complete(second)
    return not complete <= _complete(together)


def _complete(seeds: Mapping[object, Collection[int]]) -> set[object]:
    """Return the lines with every seed of the place."""
    every = {seed for known in seeds.values() for seed in known}
    return {line for line, known in seeds.items() if every <= set(known)}


def _seeds_by_place(rows: Iterable[Row]) -> dict[tuple[str, ...], Seeds]:
    by_place: dict[tuple[str, ...], Seeds] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row.role in DEFENDED:
            place = (row.task, row.model, row.attack, str(row.target), row.board.value)
            by_place[place][row.defense, row.clean_size].add(row.seed)
    return by_place


def _named_apart(sources: Iterable[Source]) -> Iterator[Source]:
    """Yield the sources with names of their own: two folders may have the same one."""
    met: Counter[str] = Counter()
    for source in sources:
        met[source.name] += 1
        again = met[source.name]
        yield source if again == 1 else replace(source, name=f"{source.name} {again}")


def _disambiguated(sources: Sequence[Source]) -> Iterator[Source]:
    rows = iter(disambiguate_tasks([row for source in sources for row in source.rows]))
    for source in sources:
        yield replace(source, rows=list(islice(rows, len(source.rows))))


def _name(row: Row) -> tuple[object, ...]:
    return row.task, row.model, row.attack, row.target, row.seed, row.role, row.defense, row.clean_size
