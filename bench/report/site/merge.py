"""Several suites as one: which cells are the same, and which only look alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from bench.report.rows.row import Row
from bench.report.rows.settings import disambiguate_tasks
from bench.suites.suite import Gate


@dataclass(frozen=True)
class Source:
    """The results of one suite.

    Attributes:
        name: of the suite.
        rows: every cell, floors and ceilings included.
        gate: when an attack counts as implanted.
    """

    name: str
    rows: Sequence[Row]
    gate: Gate = Gate()


def strictest(gates: Iterable[Gate]) -> Gate:
    """Return the gate that lets pass only what all of them let pass."""
    gates = list(gates) or [Gate()]
    return Gate(
        min_asr=max(gate.min_asr for gate in gates),
        max_acc_drop=min(gate.max_acc_drop for gate in gates),
        min_skill=max(gate.min_skill for gate in gates),
    )


def merged(sources: Iterable[Source]) -> list[Row]:
    """Return the rows of all suites, each cell once.

    Tasks of one name and several sizes or training budgets are told apart by these. Where two suites still call
    different things by one name (the same defense with another tolerance), the task of the later suite gets the
    suite's name in brackets: its cells stand beside the others, never in their place.
    """
    by_key: dict[str, Row] = {}
    known: dict[tuple[object, ...], str] = {}
    for source in _disambiguated(list(sources)):
        clashing = {row.task for row in source.rows if known.get(_name(row), row.cell_key) != row.cell_key}
        for row in source.rows:
            named = replace(row, task=f"{row.task} [{source.name}]") if row.task in clashing else row
            before = by_key.get(named.cell_key)
            if named.task != row.task and before is not None:
                continue  # the very cell is there already, under its plain name
            if before is None or (named.record is not None and before.record is None):
                by_key[named.cell_key] = named
            elif named.listed and not before.listed:
                by_key[named.cell_key] = replace(before, listed=True)
            known[_name(named)] = named.cell_key
    return list(by_key.values())


def _disambiguated(sources: Sequence[Source]) -> Iterator[Source]:
    rows = iter(disambiguate_tasks([row for source in sources for row in source.rows]))
    for source in sources:
        yield replace(source, rows=list(islice(rows, len(source.rows))))


def _name(row: Row) -> tuple[object, ...]:
    return row.task, row.model, row.attack, row.target, row.seed, row.role, row.defense, row.clean_size
