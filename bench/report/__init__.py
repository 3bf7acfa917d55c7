"""From records to tables, figures and verdicts. Importing it is quick; pandas and matplotlib come when they are needed.

Everything starts from :class:`Row`, one for each cell of a suite with its record where there is one::

    table(rows, format="md")             attacks x tasks x defenses, and a summary
    frame(rows); export(frame(rows), format="csv")
    draw(rows, folder=Path("out"))       PNG and PDF
    explain(rows, "sst2:badword:fine-mixing")
    check_claims(rows)                   the paper's claims
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import unknown
from bench.report.rows.bulk import bulk
from bench.report.rows.frames import export, frame
from bench.report.rows.row import Row
from bench.report.tables.explanation import explain
from bench.suites.suite import Gate

if TYPE_CHECKING:
    from rich.console import Console

    from bench.report.ranking.claims import Verdict
    from bench.report.tables.layout import Table

__all__ = ["Row", "check_claims", "draw", "explain", "export", "frame", "show", "show_claims", "table", "tables_of"]
FORMATS = ("csv", "html", "latex", "md", "terminal")


@bulk()
def tables_of(rows: Iterable[Row], *, gate: Gate | None = None) -> list[Table]:
    """Return for each board the table of all cells and a leaderboard per holding, before they take a format."""
    from bench.report.ranking import boards, detection
    from bench.report.ranking.results import Results
    from bench.report.tables import cells as tables
    from bench.report.tables import summary

    all_tables = []
    for name, part in boards.split(rows).items():
        results = Results(part, gate=gate)
        if name.threat.judges_models:
            all_tables.append(detection.build(results))
            continue
        all_tables += tables.build(results, board=name.words).readable(turned="attack")
        for holds, cells in boards.by_holding(part).items():
            held = results if len(cells) == len(part) else Results(cells, gate=gate, whole=results)
            all_tables.append(summary.build(held, board=replace(name, holds=holds).words))
    return all_tables or [tables.build(Results([], gate=gate))]


def table(
    rows: Iterable[Row], *, format: str, gate: Gate | None = None, standalone: bool = False, width: int = 100
) -> str:
    """Return both tables of a suite as text.

    Args:
        rows: every cell of the suite, floors and ceilings included.
        format: ``md``, ``csv``, ``latex``, ``html`` or ``terminal`` (plain characters).
        gate: when an attack counts as implanted.
        standalone: LaTeX only: a document that compiles alone instead of a fragment.
        width: of the terminal, in characters.

    Raises:
        RequestError: the format is unknown.
    """
    from bench.report.tables import latex, markup, terminal, web

    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    all_tables = tables_of(rows, gate=gate)
    match format:
        case "md":
            return "\n".join(markup.markdown(one) for one in all_tables)
        case "csv":
            return markup.comma_separated(all_tables)
        case "latex":
            return latex.latex(all_tables, standalone=standalone)
        case "html":
            return web.html(all_tables)
    return terminal.text(all_tables, width=width)


def show(rows: Iterable[Row], *, console: Console, gate: Gate | None = None) -> None:
    """Print both tables to a console, as wide as it is."""
    from bench.report.tables import terminal

    terminal.show(tables_of(rows, gate=gate), console=console)


def draw(rows: Iterable[Row], *, folder: Path, gate: Gate | None = None) -> list[Path]:
    """Write every figure that the cells allow as PNG and PDF, apart for each threat model; returns the paths.

    Ranks are drawn for each budget of labels.
    """
    from bench.report.figures import figures, rankings
    from bench.report.ranking import boards
    from bench.report.ranking.leaderboard import Leaderboard
    from bench.report.ranking.results import Results

    drawings, rows = [], list(rows)
    threats = {threat: part for threat, part in boards.by_threat(rows).items() if not threat.judges_models}
    for threat, part in threats.items():
        suffix = f"-{threat.value.replace(' ', '-')}" if len(threats) > 1 else ""
        results = Results(part, gate=gate)
        drawings += [figures.Drawing(one.name + suffix, one.figure) for one in figures.figures_of(results.frame)]
    parts = {name: part for name, part in boards.split(rows).items() if not name.threat.judges_models}
    for name, part in parts.items():
        suffix = f"-{name.slug}" if len(parts) > 1 else ""
        drawings += rankings.rankings(Leaderboard(Results(part, gate=gate)), suffix=suffix)
    return figures.write(drawings, folder)


@bulk()
def check_claims(rows: Iterable[Row], *, gate: Gate | None = None, file: Path | None = None) -> list[Verdict]:
    """Return what the records say about claims; :mod:`bench.report.ranking.verdicts` renders them.

    Args:
        rows: every cell of a suite.
        gate: when an attack counts as implanted.
        file: of the claims; by default the paper's.
    """
    from bench.report.ranking import claims

    return claims.check(rows, gate=gate, claims=None if file is None else claims.read(file))


def show_claims(rows: Iterable[Row], *, console: Console, gate: Gate | None = None, file: Path | None = None) -> None:
    """Print the verdicts on claims."""
    from bench.report.ranking.verdicts import renderables

    for part in renderables(check_claims(rows, gate=gate, file=file), width=console.width):
        console.print(part)
