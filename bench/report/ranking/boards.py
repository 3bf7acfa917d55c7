"""One board for each threat model: which cells are compared with each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from bench.contracts import Board
from bench.experiment.roles import DEFENDED
from bench.report.rows.row import Row


def split(rows: Iterable[Row]) -> dict[Board, list[Row]]:
    """Return the rows of each board: its defended cells with the victims and floors that they belong to.

    The clean reference is under every threat model: what a defense does to it is shown on all boards of that defense.
    A victim that nobody defends is on the board of its attack.
    """
    rows = list(rows)
    defended = [row for row in rows if row.role in DEFENDED]
    boards_of: dict[str, set[Board]] = defaultdict(set)  # defense -> boards
    attacked: dict[str, set[Board]] = defaultdict(set)  # victim -> boards
    for row in defended:
        if row.attack_base != "clean":
            boards_of[row.defense].add(row.board)
            attacked[row.victim_key].add(row.board)
    beside: dict[tuple[str, str, int], set[Board]] = defaultdict(set)  # clean model -> boards
    for row in rows:
        if row.role in DEFENDED:
            beside[_model(row)] |= _boards(row, boards_of)
        elif row.attack_base != "clean":
            beside[_model(row)] |= attacked.get(row.victim_key) or {row.board}
    found: dict[Board, list[Row]] = {board: [] for board in Board}
    for row in rows:
        if row.role in DEFENDED:
            wanted = _boards(row, boards_of)
        elif row.attack_base == "clean":
            wanted = beside[_model(row)]
        else:
            wanted = attacked.get(row.victim_key) or {row.board}
        for board in wanted:
            found[board].append(row)
    there = {board: part for board, part in found.items() if any(_makes_a_board(row) for row in part)}
    return there or ({Board.FINE_TUNED: rows} if rows else {})


def _boards(row: Row, boards_of: Mapping[str, set[Board]]) -> set[Board]:
    """Return the boards of a defended cell."""
    return (boards_of.get(row.defense) if row.attack_base == "clean" else None) or {row.board}


def _model(row: Row) -> tuple[str, str, int]:
    """Return what the clean model of a row was trained for."""
    return row.task, row.model, row.seed


def _makes_a_board(row: Row) -> bool:
    """Whether a row is more than the reference that every board shows."""
    return row.role in DEFENDED or row.attack_base != "clean"
