"""Which defense to use: the one that is asked for, or the best of the committed board that can be used here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.contracts import Board, Defense, Needs
from bench.errors import RequestError
from bench.plugins.chain import chain, needs_of

AUTO = "auto"
LEAST_EFFECT = 50.0  # percent of the possible reduction of ASR; with less, a defense is no recommendation
COMMITTED = Path(__file__).with_name("board.json")  # a copy of results/board-minilm/leaderboard.json; a test compares
HOW = {Needs.CLEAN: "give --clean", Needs.PRETRAINED: "give --pretrained"}


class BoardRow(BaseModel):
    """One line of a board. Further fields are for other readers."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    defense: str
    mean_rank: float | None = None
    effectiveness: float | None = None
    seeds: int | None = None
    needs: tuple[Needs, ...] = ()


class CommittedBoard(BaseModel):
    """A leaderboard as a file: the defenses of one threat model with their mean ranks, 1 is best."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    board: str
    places: tuple[str, ...] = ()
    rows: tuple[BoardRow, ...]


@dataclass(frozen=True)
class Choice:
    """A defense and why it was taken, in one sentence."""

    defense: Defense
    why: str


def choose(spec: str, there: Iterable[Needs], *, board: Path | None = None) -> Choice:
    """Return the defense of a spec, or with ``auto`` the best of the board whose needs are met.

    Args:
        spec: a defense, a chain joined by ``+``, or ``auto``.
        there: what can be handed over.
        board: file of the board, as ``doorbench publish`` writes it; by default the committed one.

    Raises:
        RequestError: the defense cannot purify a checkpoint, or needs what is not there.
    """
    given = frozenset(there)
    if spec == AUTO:
        return _best(given, board)
    defense = chain(spec)
    if reason := unfit(defense, given):
        raise RequestError(f"defense {spec!r} {reason}.")
    return Choice(defense, "it was asked for")


def unfit(defense: Defense, there: frozenset[Needs]) -> str | None:
    """Return why a defense cannot purify a checkpoint with what is there, or None."""
    if defense.kind != "purification" or not _returns_weights(defense):
        return f"is of the kind {defense.kind!r} and leaves no weights to write; take one of the kind 'purification'"
    lacking = sorted(needs_of(defense) - there)
    if lacking:
        ways = "; ".join(HOW.get(need, f"a checkpoint alone cannot offer {need.value!r}") for need in lacking)
        return f"needs {', '.join(lacking)}: {ways}"
    return None


def _returns_weights(defense: Defense) -> bool:
    parts: tuple[Defense, ...] = getattr(defense, "parts", (defense,))
    return parts[-1].purifies


def read_board(path: Path) -> CommittedBoard:
    """Read the board of fine-tuned models; a file may hold one board or a list of them."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        boards = [CommittedBoard.model_validate(one) for one in (found if isinstance(found, list) else [found])]
    except (OSError, ValueError, ValidationError) as error:
        raise RequestError(f"{path}: is not a board: {str(error).splitlines()[0]}.") from None
    for board in boards:
        if board.board == Board.FINE_TUNED:
            return board
    raise RequestError(f"{path}: has no board {Board.FINE_TUNED.value!r}.")


def _best(there: frozenset[Needs], given: Path | None) -> Choice:
    path = given or COMMITTED
    passed: list[str] = []
    board = read_board(path)
    ranked = [row for row in board.rows if row.mean_rank is not None and Needs.ORACLE not in row.needs]
    for row in sorted(ranked, key=lambda row: row.mean_rank or 0.0):
        try:
            defense = chain(row.defense)
        except RequestError as error:
            passed.append(f"{row.defense} ({error})")
            continue
        if reason := unfit(defense, there):
            passed.append(f"{row.defense} {reason}")
            continue
        if row.effectiveness is not None and row.effectiveness < LEAST_EFFECT:
            passed.append(f"{row.defense} removed only {row.effectiveness:.0f} % of what could be removed")
            continue
        better = f"; better ranked but not usable here: {'; '.join(passed)}" if passed else ""
        basis = f" (seeds: {row.seeds}; places: {', '.join(board.places)})" if board.places and row.seeds else ""
        why = (
            f"it has the best mean rank ({row.mean_rank:.2f}) of the usable defenses on the board {path}{basis}{better}"
        )
        return Choice(defense, why)
    raise RequestError(f"no defense on the board {path} can be used here: {'; '.join(passed) or 'it has no ranks'}.")
