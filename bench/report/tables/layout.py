"""A table before it becomes Markdown, LaTeX, HTML or a terminal's characters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from bench.report.ranking.results import Mark

DAGGER = "†"
EXTERNAL = "‡"
MOST_LEAVES = 14  # more columns of numbers cannot be read in print


@dataclass(frozen=True)
class Number:
    """A number as it is printed.

    Attributes:
        value: percent, points, a rank or a factor.
        spread: standard deviation over seeds; None for a single seed.
        interval: low and high end.
        digits: decimals.
        unit: put after it.
    """

    value: float
    spread: float | None = None
    interval: tuple[float, float] | None = None
    digits: int = 1
    unit: str = ""

    def text(self, plus_minus: str = " ± ") -> str:
        """Return it in characters; a negative zero is written as zero."""
        text = self._fixed(self.value) + self.unit
        if self.spread is not None:
            text += plus_minus + self._fixed(self.spread)
        if self.interval is not None:
            text += f" [{self._fixed(self.interval[0])}, {self._fixed(self.interval[1])}]"
        return text

    def _fixed(self, value: float) -> str:
        return f"{round(value, self.digits) + 0.0:.{self.digits}f}"


@dataclass(frozen=True)
class Cell:
    """What stands at a line and a column: one number for each leaf, or words for all of them.

    Attributes:
        numbers: one for each leaf of the column; None where it is not defined.
        words: instead of numbers: ``failed``, ``n/a``, ``…`` (waiting) or nothing.
        mark: best, or shown to be as good as the best.
        grey: the attack did not implant.
        notes: indices of footnotes.
    """

    numbers: tuple[Number | None, ...] = ()
    words: str = ""
    mark: Mark = ""
    grey: bool = False
    notes: tuple[int, ...] = ()

    def texts(self, plus_minus: str = " ± ") -> tuple[str, ...]:
        """Return the numbers in characters; ``–`` where one is not defined."""
        return tuple("–" if number is None else number.text(plus_minus) for number in self.numbers)


@dataclass(frozen=True)
class Column:
    """A column with its headings from the outside in, e.g. task and attack, and its leaves, e.g. ACC and ASR."""

    headings: tuple[str, ...]
    leaves: tuple[str, ...]
    grey: bool = False
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Line:
    """A line of a table; references are floors and ceilings, which stand on top."""

    label: str
    cells: tuple[Cell, ...]
    reference: bool = False
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: one line.
        corner: what the line labels are.
        columns, lines: with one cell for each column in every line.
        notes: footnotes, in the order of their indices.
        footer: sentences on what was run and how to read it.
    """

    title: str
    corner: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    footer: tuple[str, ...] = ()

    @property
    def levels(self) -> int:
        """How many headings a column has above its leaves."""
        return max((len(column.headings) for column in self.columns), default=0)

    @property
    def leaves(self) -> int:
        """How many columns of numbers there are."""
        return sum(len(column.leaves) for column in self.columns)

    def readable(self, *, turned: str) -> tuple[Table, ...]:
        """Return the table as it stands, or turned if only then its columns can be read; ``turned`` is its corner."""
        each = max((column.leaves for column in self.columns), key=len, default=())
        if self.leaves <= MOST_LEAVES or len(self.lines) * len(each) > MOST_LEAVES:
            return (self,)
        parts = [self._turned(members, heading, each, turned) for heading, members in self.spans(0)]
        return (*parts[:-1], replace(parts[-1], footer=self.footer))

    def _turned(self, members: list[int], heading: str, leaves: tuple[str, ...], corner: str) -> Table:
        """Return a table with a line for each of some columns, which share a heading, and a column for each line."""
        notes = Footnotes()

        def again(numbers: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(notes.add(self.notes[note]) for note in numbers)

        lines = []
        for i in members:
            column = self.columns[i]
            missing = (None,) * (len(leaves) - len(column.leaves))
            cells = [line.cells[i] for line in self.lines]
            cells = [
                replace(cell, numbers=cell.numbers and cell.numbers + missing, notes=again(cell.notes))
                for cell in cells
            ]
            lines.append(Line(" · ".join(column.headings[1:]), tuple(cells), notes=again(column.notes)))
        columns = tuple(Column((line.label,), leaves) for line in self.lines)
        return Table(f"{self.title}; {heading}", corner, columns, tuple(lines), tuple(notes.texts))

    def part(self, wanted: Iterable[int]) -> Table:
        """Return the table with some of its columns, and without footnotes and footer."""
        rows = list(wanted)
        lines = tuple(Line(line.label, tuple(line.cells[i] for i in rows), line.reference) for line in self.lines)
        return Table(self.title, self.corner, tuple(self.columns[i] for i in rows), lines)

    def spans(self, level: int) -> list[tuple[str, list[int]]]:
        """Return runs of neighbouring columns that share their headings down to ``level``."""
        runs: list[tuple[tuple[str, ...], list[int]]] = []
        for i, column in enumerate(self.columns):
            path = column.headings[: level + 1]
            if runs and runs[-1][0] == path:
                runs[-1][1].append(i)
            else:
                runs.append((path, [i]))
        return [(path[-1] if path else "", members) for path, members in runs]


@dataclass
class Footnotes:
    """Collects footnotes; the same text gets the same index."""

    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> int:
        """Return the index of a text."""
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)


def letter(index: int) -> str:
    """Return the marker of a footnote: a, b, ..., z, aa, ab, ..."""
    before, last = divmod(index, 26)
    return (letter(before - 1) if before else "") + "abcdefghijklmnopqrstuvwxyz"[last]
