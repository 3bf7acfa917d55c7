"""Tables as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from bench.report.rows.frames import no_formula
from bench.report.tables.layout import Cell, Column, Table, letter

_WORDS = {"…": "waiting"}
_SPECIAL = re.compile(r"([\\|*_`<>\[\]])")


def markdown(table: Table) -> str:
    """Return a Markdown table; bold is best, ``≈`` shown to be as good, brackets did not implant."""
    header = [_escape(table.corner), *(_heading(column) for column in table.columns)]
    rows = [header, ["---", *("---:" for _ in table.columns)]]
    for line in table.lines:
        label = _escape(line.label)
        rows.append(
            [(f"*{label}*" if line.reference else label) + _markers(line.notes), *(_cell(cell) for cell in line.cells)]
        )
    parts = [f"### {_escape(table.title)}", "\n".join("| " + " | ".join(row) + " |" for row in rows)]
    if table.notes:
        parts.append("\n".join(f"- <sup>{letter(i)}</sup> {_escape(note)}" for i, note in enumerate(table.notes)))
    parts += [_escape(sentence) for sentence in (*table.footer, *legend(table, best="bold", equal="≈", grey="(…)"))]
    return "\n\n".join(parts) + "\n"


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace(r"\<", "&lt;").replace(r"\>", "&gt;")


def _heading(column: Column) -> str:
    leaves = "" if not column.headings else f" ({' / '.join(column.leaves)})"
    return _escape(" · ".join(column.headings or column.leaves) + leaves) + _markers(column.notes)


def _markers(notes: Sequence[int]) -> str:
    return f"<sup>{','.join(letter(note) for note in notes)}</sup>" if notes else ""


def _cell(cell: Cell) -> str:
    text = plain(cell)
    if cell.mark == "best":
        text = f"**{text}**"
    elif cell.mark == "equal":
        text = f"≈ {text}"
    return (f"({text})" if cell.grey and text else _escape(text) if cell.words else text) + _markers(cell.notes)


def plain(cell: Cell, plus_minus: str = " ± ") -> str:
    """Return a cell in characters: its words, or its numbers joined by a slash."""
    return cell.words or " / ".join(cell.texts(plus_minus))


def legend(table: Table, *, best: str, equal: str, grey: str) -> tuple[str, ...]:
    """Return one sentence on the marks that the table uses."""
    cells = [cell for line in table.lines for cell in line.cells]
    marks = [f"{best}: best" for _ in [0] if any(cell.mark == "best" for cell in cells)]
    marks += [f"{equal}: shown to be as good" for _ in [0] if any(cell.mark == "equal" for cell in cells)]
    marks += [f"{grey}: the attack did not implant" for _ in [0] if any(cell.grey for cell in cells)]
    marks += ["…: not run yet" for _ in [0] if any(cell.words == "…" for cell in cells)]
    return ("; ".join(marks) + ".",) if marks else ()


def comma_separated(tables: Sequence[Table]) -> str:
    """Return tables as CSV, an empty line between them: for each leaf its value, its spread or interval, and marks."""
    return "\n".join(_one_csv(table) for table in tables)


def _one_csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = [table.corner, *(name for i in range(len(table.columns)) for name in _csv_header(table, i))]
    writer.writerow(map(no_formula, header))
    for line in table.lines:
        values = [value for i, cell in enumerate(line.cells) for value in _csv_values(table, i, cell)]
        writer.writerow(map(no_formula, [line.label, *values]))
    return text.getvalue()


def _extras(table: Table, i: int) -> tuple[bool, bool, bool]:
    """Return whether a column has spreads, intervals, and marks or footnotes."""
    cells = [line.cells[i] for line in table.lines]
    numbers = [number for cell in cells for number in cell.numbers if number is not None]
    spread, interval = any(n.spread is not None for n in numbers), any(n.interval is not None for n in numbers)
    return spread, interval, any(cell.mark or cell.grey or cell.notes for cell in cells)


def _csv_header(table: Table, i: int) -> list[str]:
    spread, interval, marks = _extras(table, i)
    path = [*table.columns[i].headings]
    names: list[str] = []
    for leaf in table.columns[i].leaves:
        names.append(" | ".join([*path, leaf]))
        names += [" | ".join([*path, leaf, "sd"])] if spread else []
        names += [" | ".join([*path, leaf, end]) for end in ("low", "high")] if interval else []
    return [*names, " | ".join([*path, "remark"])] if marks else names


def _csv_values(table: Table, i: int, cell: Cell) -> list[str]:
    spread, interval, marks = _extras(table, i)
    values: list[str] = []
    for leaf in range(len(table.columns[i].leaves)):
        number = cell.numbers[leaf] if cell.numbers else None
        values.append(_WORDS.get(cell.words, cell.words) if number is None else f"{number.value:.4f}")
        values += [f"{number.spread:.4f}" if number and number.spread is not None else ""] if spread else []
        ends = number.interval if number and number.interval else ("", "")
        values += [f"{end:.4f}" if end != "" else "" for end in ends] if interval else []
    return [*values, _remark(table, cell)] if marks else values


def _remark(table: Table, cell: Cell) -> str:
    remarks = [{"best": "best", "equal": "shown to be as good", "": ""}[cell.mark]]
    remarks += ["not implanted"] if cell.grey else []
    return "; ".join(part for part in [*remarks, *(table.notes[note] for note in cell.notes)] if part)
