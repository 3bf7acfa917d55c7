"""Tables in a terminal: as wide as the window allows, never with a number cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bench.report.tables.layout import Cell, Column, Line, Table, letter
from bench.report.tables.markup import legend, plain

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table as RichTable
    from rich.text import Text

STYLES = {"best": "bold green", "equal": "green", "": ""}
EDGE, GAP = " ", "   "  # at both sides of a table, and between its columns
SIGNS = {"best": "* ", "equal": "≈ ", "": ""}


def show(tables: Sequence[Table], *, console: Console) -> None:
    """Print tables to a console."""
    for table in tables:
        for part in renderables(table, console=console):
            console.print(part)
        console.print()


def text(tables: Sequence[Table], *, width: int) -> str:
    """Return tables as plain text of a given width."""
    import io

    from rich.console import Console

    out = io.StringIO()
    show(tables, console=Console(file=out, width=width, color_system=None, force_terminal=False))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def renderables(table: Table, *, console: Console) -> list[RenderableType]:
    """Return what to print: one table, or several narrower ones where the window is too small, then the notes."""
    from rich.text import Text

    grid = Grid(table)
    parts: list[RenderableType] = [Text(table.title, style="bold")]
    parts += [
        grid.drawn(members) if grid.width(members) <= console.width else _folded(table, members)
        for members in _split(grid, console.width)
    ]
    parts += [Text(f"{letter(i)}: {note}", style="yellow") for i, note in enumerate(table.notes)]
    sentences = (*table.footer, *legend(table, best="*", equal="≈", grey="(…)"))
    return [*parts, *(Text(sentence, style="dim") for sentence in sentences)]


class Grid:
    """The cells of a table as texts, each made and measured once, to be drawn in a window that is wide enough.

    It looks as a table of rich does, which takes longer to measure thousands of columns than all else takes.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.labels = [_label(line) for line in table.lines]
        self.cells = [[_cell(line.cells[i]) for line in table.lines] for i in range(len(table.columns))]
        self.label_width = _width([_text(table.corner), *self.labels])
        self.widths = [
            _width([*_heading(column, lines=0 if table.levels else 1).split("\n"), *cells])
            for column, cells in zip(table.columns, self.cells, strict=True)
        ]

    def width(self, members: Sequence[int]) -> int:
        """Return how many characters wide some columns are, beside the labels."""
        return len(EDGE) + self.label_width + sum(len(GAP) + self.widths[i] for i in members) + len(EDGE)

    def drawn(self, members: Sequence[int]) -> Text:
        """Return some columns beside the labels."""
        blank, rule = " " * self.width(members), "─" * (self.width(members) - 2 * len(EDGE))
        drawn = _text(f"{blank}\n")
        headings = [heading.split("\n", allow_blank=True) for heading in _headings(self.table, members)]
        for level in range(-max(map(len, headings)), 0):
            parts = [lines[level] if level >= -len(lines) else _text("") for lines in headings]
            self._add(drawn, members, parts, "bold")
        drawn.append(f"{EDGE}{rule}{EDGE}\n")
        for number, label in enumerate(self.labels):
            self._add(drawn, members, [label, *(self.cells[i][number] for i in members)])
            drawn.append(f"{blank}\n" if _ends_references(self.table, number) else "")
        drawn.no_wrap = True  # it is wide enough, and to find that out takes as long as to draw it
        return drawn.append(blank)

    def _add(self, drawn: Text, members: Sequence[int], texts: Sequence[Text], style: str = "") -> None:
        """Add a line: a label, and a text for each column."""
        start, (label, *cells) = len(drawn), texts
        drawn.append(EDGE).append_text(label).append(" " * (self.label_width - label.cell_len))
        for i, text in zip(members, cells, strict=True):
            drawn.append(" " * (len(GAP) + self.widths[i] - text.cell_len)).append_text(text)
        if style:
            drawn.stylize_before(style, start)
        drawn.append(f"{EDGE}\n")


def _width(texts: Iterable[Text]) -> int:
    return max((text.cell_len for text in texts), default=0)


def _split(grid: Grid, width: int) -> list[list[int]]:
    """Return the columns of each printed table: all, else one table a task, else as many as fit."""
    everything = list(range(len(grid.widths)))
    if grid.width(everything) <= width:
        return [everything]
    by_task = [members for _, members in grid.table.spans(0)] if grid.table.levels > 1 else [everything]
    if all(grid.width(members) <= width for members in by_task):
        return by_task
    packed: list[list[int]] = []
    for members in by_task:
        current: list[int] = []
        for i in members:
            if current and grid.width([*current, i]) > width:
                packed.append(current)
                current = []
            current.append(i)
        packed.append(current)
    return packed


def _folded(table: Table, members: Sequence[int]) -> RichTable:
    """Return some columns beside the labels, for a window that is too narrow for them."""
    from rich import box
    from rich.table import Table as RichTable

    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, title=None)
    corner, *headings = _headings(table, members)
    drawn.add_column(corner, overflow="fold")
    for heading in headings:
        drawn.add_column(heading, justify="right", overflow="fold")
    for number, line in enumerate(table.lines):
        cells = (_cell(line.cells[i]) for i in members)
        drawn.add_row(_label(line), *cells, end_section=_ends_references(table, number))
    return drawn


def _ends_references(table: Table, number: int) -> bool:
    """Whether a line is the last of the floors and ceilings, with defenses below."""
    return table.lines[number].reference and not table.lines[min(number + 1, len(table.lines) - 1)].reference


def _headings(table: Table, members: Sequence[int]) -> list[Text]:
    """Return the heading of the labels and those of some columns."""
    above = table.levels or max((_stacked(table.columns[i].leaves).count("\n") for i in members), default=0)
    each = [_heading(table.columns[i], lines=above + 1 if not table.levels else 0) for i in members]
    return [_text("\n" * above + table.corner), *each]


def _label(line: Line) -> Text:
    return _noted(_text(line.label, "italic" if line.reference else ""), line.notes)


def _heading(column: Column, *, lines: int) -> Text:
    """Return a heading; without outer headings its words stand on top of each other, down to the last of ``lines``."""
    words = "\n".join(part for part in (*column.headings, " / ".join(column.leaves)) if part)
    if lines:
        words = _stacked(column.leaves)
        words = "\n" * (lines - 1 - words.count("\n")) + words
    text = _text(words)
    if column.grey:
        text.stylize("dim")
    return _noted(text, column.notes)


def _stacked(leaves: Sequence[str]) -> str:
    return " / ".join(leaves).replace(" ", "\n").replace("·", "·\n")


def _cell(cell: Cell) -> Text:
    words = plain(cell, "±")
    style = {"failed": "bold red", "n/a": "yellow", "…": "dim"}.get(cell.words, STYLES[cell.mark])
    text = _text(SIGNS[cell.mark] + (f"({words})" if cell.grey and words else words), "dim" if cell.grey else style)
    return _noted(text, cell.notes)


def _noted(text: Text, notes: Sequence[int]) -> Text:
    if notes:
        text.append(f" [{','.join(letter(note) for note in notes)}]", style="yellow")
    return text


def _text(content: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(content, style=style)
