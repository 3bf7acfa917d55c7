"""Tables in a terminal: as wide as the window allows, never with a number cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.report.tables.layout import Cell, Column, Table, letter
from bench.report.tables.markup import legend, plain

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table as RichTable
    from rich.text import Text

STYLES = {"best": "bold green", "equal": "green", "": ""}
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

    parts: list[RenderableType] = [Text(table.title, style="bold")]
    parts += [_drawn(table, members, fold=not _fits(table, members, console)) for members in _split(table, console)]
    parts += [Text(f"{letter(i)}: {note}", style="yellow") for i, note in enumerate(table.notes)]
    sentences = (*table.footer, *legend(table, best="*", equal="≈", grey="(…)"))
    return [*parts, *(Text(sentence, style="dim") for sentence in sentences)]


def _split(table: Table, console: Console) -> list[list[int]]:
    """Return the columns of each printed table: all, else one table a task, else as many as fit."""
    everything = list(range(len(table.columns)))
    if _fits(table, everything, console):
        return [everything]
    by_task = [members for _, members in table.spans(0)] if table.levels > 1 else [everything]
    if all(_fits(table, members, console) for members in by_task):
        return by_task
    packed: list[list[int]] = []
    for members in by_task:
        current: list[int] = []
        for i in members:
            if current and not _fits(table, [*current, i], console):
                packed.append(current)
                current = []
            current.append(i)
        packed.append(current)
    return packed


def _fits(table: Table, members: list[int], console: Console) -> bool:
    from rich.measure import Measurement

    drawn = _drawn(table, members, fold=False)
    return Measurement.get(console, console.options.update(max_width=10_000), drawn).maximum <= console.width


def _drawn(table: Table, members: list[int], *, fold: bool) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable

    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, title=None)
    above = table.levels or max((_stacked(table.columns[i].leaves).count("\n") for i in members), default=0)
    drawn.add_column(_text("\n" * above + table.corner), no_wrap=not fold, overflow="fold")
    for i in members:
        heading = _heading(table.columns[i], lines=above + 1 if not table.levels else 0)
        drawn.add_column(heading, justify="right", no_wrap=not fold, overflow="fold")
    for number, line in enumerate(table.lines):
        last = line.reference and not table.lines[min(number + 1, len(table.lines) - 1)].reference
        label = _noted(_text(line.label, "italic" if line.reference else ""), line.notes)
        drawn.add_row(label, *(_cell(line.cells[i]) for i in members), end_section=last)
    return drawn


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
