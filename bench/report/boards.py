"""One board for each threat model: which cells are compared with each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from bench.contracts import Board
from bench.report.rows import Row

WHAT: dict[Board, str] = {
    Board.FINE_TUNED: "The defender downloads a fine-tuned classifier that may hold a backdoor, and purifies it.",
    Board.PRE_TRAINED: "The defender downloads a pre-trained model that may hold a backdoor, fine-tunes and purifies it.",
    Board.DATA: "The defender gets a training set that may be poisoned, and trains a model of its own.",
    Board.FILTER: "The defender deploys the received model as it is, and checks or rewrites every input.",
    Board.DETECTION: "The defender says of a whole model how suspicious it is; nothing is repaired.",
}


def split(rows: Iterable[Row]) -> dict[Board, list[Row]]:
    """Return the rows of each board: its defended cells with the victims and floors that they belong to.

    The clean reference is under every threat model: what a defense does to it is shown on all boards of that defense.
    A victim that nobody defends is on the board of its attack.
    """
    rows = list(rows)
    defended = [row for row in rows if row.role == "defended"]
    boards_of: dict[str, set[Board]] = defaultdict(set)  # defense -> boards
    attacked: dict[str, set[Board]] = defaultdict(set)  # victim -> boards
    for row in defended:
        if row.attack_base != "clean":
            boards_of[row.defense].add(row.board)
            attacked[row.victim_key].add(row.board)
    found: dict[Board, list[Row]] = {board: [] for board in Board}
    for row in rows:
        if row.role == "defended":
            shared = boards_of.get(row.defense) if row.attack_base == "clean" else None
            wanted = shared or {row.board}
        elif row.attack_base == "clean":
            wanted = set(Board)
        else:
            wanted = attacked.get(row.victim_key) or {row.board}
        for board in wanted:
            found[board].append(row)
    there = {board: part for board, part in found.items() if any(_makes_a_board(row) for row in part)}
    return there or ({Board.FINE_TUNED: rows} if rows else {})


def _makes_a_board(row: Row) -> bool:
    """Whether a row is more than the reference that every board shows."""
    return row.role == "defended" or row.attack_base != "clean"
