"""Which cells are compared: one board per threat model and label budget, ranked by what a defender holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.contracts import Board, Holding, Kind
from bench.experiment.roles import DEFENDED
from bench.report.rows.row import Row


@dataclass(frozen=True)
class BoardName:
    """What a board compares.

    Attributes:
        threat: the threat model.
        labels: clean labels that a defender sees; 0 where no defense of the board reads any.
        holds: what the defenders hold at most; None for the board with all of them.
        kind: of the models.
    """

    threat: Board
    labels: int = 0
    holds: Holding | None = None
    kind: Kind = Kind.CLASSIFICATION

    @property
    def words(self) -> str:
        """The board in words, e.g. "fine-tuned model received, 64 labels, defenders hold labels only"."""
        labels = [f"{self.labels} labels"] if self.labels else []
        holds = [] if self.holds is None else [f"defenders hold {self.holds.words}"]
        return ", ".join([*self._kind, self.threat.value, *labels, *holds])

    @property
    def slug(self) -> str:
        """The board as a part of a file's name."""
        holds = [] if self.holds is None else [self.holds.value]
        return "-".join([*self._kind, self.threat.value, *([str(self.labels)] if self.labels else []), *holds]).replace(
            " ", "-"
        )

    @property
    def _kind(self) -> list[str]:
        return [] if self.kind == Kind.CLASSIFICATION else [self.kind.value]


def split(rows: Iterable[Row]) -> dict[BoardName, list[Row]]:
    """Return the rows of each board: its defended cells with the victims and floors that they belong to.

    Kinds of models have boards of their own.
    A defense that reads no labels is on the boards of every budget. The clean model is under every threat model: what
    a defense does to it is shown on all boards of that defense. A victim that nobody defends is on the board of its
    attack.
    """
    rows, boards = list(rows), {}
    for kind in Kind:
        for threat, part in by_threat(row for row in rows if row.kind == kind).items():
            for labels in sorted({row.clean_size for row in part if row.role in DEFENDED} - {0}) or [0]:
                kept = [row for row in part if row.role not in DEFENDED or row.clean_size in (0, labels)]
                boards[BoardName(threat, labels, kind=kind)] = kept
    return boards


def by_holding(rows: Iterable[Row]) -> dict[Holding, list[Row]]:
    """Return the rows of a board by what the defenders hold at most.

    A defender who holds more can do whatever one can who holds less, so the parts are nested. A part that shows no
    defense beyond those before it is left out.
    """
    rows = list(rows)
    parts: dict[Holding, list[Row]] = {}
    shown: set[str] = set()
    needs = {row.needs for row in rows if row.role in DEFENDED}
    for holds in Holding:
        allowed = {one for one in needs if holds.allows(one)}
        kept = [row for row in rows if row.role not in DEFENDED or row.needs in allowed]
        defenses = {row.defense for row in kept if row.role in DEFENDED}
        if defenses - shown:
            parts[holds] = kept
            shown |= defenses
    return parts


def by_threat(rows: Iterable[Row]) -> dict[Board, list[Row]]:
    """Return the rows of each threat model, with every budget of labels."""
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
    parts: dict[Board, list[Row]] = {board: [] for board in Board}
    for row in rows:
        if row.role in DEFENDED:
            wanted = _boards(row, boards_of)
        elif row.attack_base == "clean":
            wanted = beside[_model(row)]
        else:
            wanted = attacked.get(row.victim_key) or {row.board}
        for board in wanted:
            parts[board].append(row)
    boards = {board: part for board, part in parts.items() if any(_makes_a_board(row) for row in part)}
    return boards or ({Board.FINE_TUNED: rows} if rows else {})


def _boards(row: Row, boards_of: Mapping[str, set[Board]]) -> set[Board]:
    """Return the boards of a defended cell."""
    return (boards_of.get(row.defense) if row.attack_base == "clean" else None) or {row.board}


def _model(row: Row) -> tuple[str, str, int]:
    """Return what the clean model of a row was trained for."""
    return row.task, row.model, row.seed


def _makes_a_board(row: Row) -> bool:
    """Whether a row is more than the reference that every board shows."""
    return row.role in DEFENDED or row.attack_base != "clean"
