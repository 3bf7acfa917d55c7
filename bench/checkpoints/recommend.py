"""Which defense to use: the one that was asked for, or the best usable one of the committed board."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.contracts import Board, Defense, Needs
from bench.errors import RequestError
from bench.models.files import read_json
from bench.plugins.chain import chain, needs_of

AUTO = "auto"
LEAST_RATING = 60.0  # DER; a defense with less is not recommended: doing nothing has 50
COMMITTED = Path(__file__).with_name(
    "board.json"
)  # a copy of results/paper-minilm/paper-single/leaderboard.json; a test compares
REMEDIES = {Needs.CLEAN: "give --clean", Needs.PRETRAINED: "give --pretrained"}


class BoardRow(BaseModel):
    """One row of a board. Other fields of the file are for other readers."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    defense: str
    rank: float | None = None
    asr: float | None = None
    der: float | None = None
    flip: float | None = None
    seeds: int | None = None
    needs: tuple[Needs, ...] = ()


class CommittedBoard(BaseModel):
    """A leaderboard as a file: the defenses of one threat model with their ranks; 1 is best."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    board: str
    suite: str = ""
    labels: int = 0
    places: tuple[str, ...] = ()
    rows: tuple[BoardRow, ...]


@dataclass(frozen=True)
class ChosenDefense:
    """A defense, and in one sentence why it was chosen."""

    defense: Defense
    why: str


def choose(spec: str, available: Iterable[Needs], *, board: Path | None = None) -> ChosenDefense:
    """Return the defense of a spec, or with ``auto`` the best of the board whose needs are met.

    Args:
        spec: a defense, a chain joined by ``+``, or ``auto``.
        available: what can be handed over.
        board: file of the board, as ``doorbench publish`` writes it; by default the committed one.

    Raises:
        RequestError: the defense cannot purify a checkpoint, or needs what is not available.
    """
    needs = frozenset(available)
    if spec == AUTO:
        return _best(needs, board)
    defense = chain(spec)
    if reason := unfit(defense, needs):
        raise RequestError(f"defense {spec!r} {reason}.")
    return ChosenDefense(defense, "it was asked for")


def unfit(defense: Defense, available: frozenset[Needs]) -> str | None:
    """Return why a defense cannot purify a checkpoint with what is available, or None."""
    if defense.kind != "purification" or not _returns_weights(defense):
        return f"is of the kind {defense.kind!r} and leaves no weights to write; take one of the kind 'purification'"
    lacking = sorted(needs_of(defense) - available)
    if lacking:
        remedies = "; ".join(REMEDIES.get(need, f"a checkpoint alone cannot offer {need.value!r}") for need in lacking)
        return f"needs {', '.join(lacking)}: {remedies}"
    return None


def _returns_weights(defense: Defense) -> bool:
    parts: tuple[Defense, ...] = getattr(defense, "parts", (defense,))
    return parts[-1].purifies


def read_board(path: Path) -> CommittedBoard:
    """Read the board of fine-tuned models with most defenses; a file may hold one board or a list of them."""
    try:
        content = read_json(path)
        boards = [CommittedBoard.model_validate(one) for one in (content if isinstance(content, list) else [content])]
    except ValidationError as error:
        raise RequestError(f"{path}: is not a board: {str(error).splitlines()[0]}.") from None
    wanted = [board for board in boards if board.board == Board.FINE_TUNED]
    if not wanted:
        raise RequestError(f"{path}: has no board {Board.FINE_TUNED.value!r}.")
    return max(wanted, key=lambda board: len(board.rows))


def _best(available: frozenset[Needs], file: Path | None) -> ChosenDefense:
    path = file or COMMITTED
    passed_over: list[str] = []
    board = read_board(path)
    ranked = [row for row in board.rows if row.rank is not None and Needs.ORACLE not in row.needs]
    for row in sorted(ranked, key=lambda row: row.rank or 0.0):
        try:
            defense = chain(row.defense)
        except RequestError as error:
            passed_over.append(f"{row.defense} ({error})")
            continue
        if reason := unfit(defense, available):
            passed_over.append(f"{row.defense} {reason}")
            continue
        if row.der is not None and row.der < LEAST_RATING:
            passed_over.append(f"{row.defense} has a DER of {row.der:.0f}, and doing nothing 50")
            continue
        better = f"; better ranked but not usable here: {'; '.join(passed_over)}" if passed_over else ""
        basis = f" (seeds: {row.seeds}; places: {', '.join(board.places)})" if board.places and row.seeds else ""
        called = _called(board, file)
        why = f"it has the best rank ({row.rank:.0f}) of the usable defenses on {called}{_left(row)}{basis}{better}"
        return ChosenDefense(defense, why)
    raise RequestError(f"no defense on the board {path} can be used: {'; '.join(passed_over) or 'it has no ranks'}.")


def _called(board: CommittedBoard, file: Path | None) -> str:
    """Return how a board is called in words that mean the same on every machine."""
    of = f" of {board.suite}" if board.suite else ""
    labels = f", {board.labels} labels" if board.labels else ""
    return f"the committed board{of} ({board.board}{labels})" if file is None else f"the board in {file.name}"


def _left(row: BoardRow) -> str:
    """Return what a defense leaves of a backdoor on its board."""
    parts = [f"an ASR of {row.asr:.1f} %"] if row.asr is not None else []
    parts += [f"a flip rate of {row.flip:.1f} %"] if row.flip is not None else []
    return f", where it leaves {' and '.join(parts)}" if parts else ""
