"""What the commands print of a suite: progress, status, tables and verdicts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from bench.cli import terminal
from bench.store import outputs

if TYPE_CHECKING:
    from rich.console import Console

    from bench.report import Row
    from bench.runner import Summary
    from bench.session import Session, Shown


def run(opened: Session, **options: Any) -> Summary:
    """Run a suite with a line of progress."""
    from bench import runner

    with runner.progress(opened.plan.jobs) as on_event:
        return opened.run(on_event=on_event, **options)


def status(opened: Session) -> None:
    """Print what is done, running, waiting and failed."""
    from bench import runner

    console = terminal.console()
    console.print(opened.size, highlight=False)
    console.print(runner.render_status(runner.status(opened.plan.jobs, opened.store)))


def report(opened: Session, folder: Path | None = None) -> None:
    """Print the table, draw the figures, into ``reports/<suite>`` of the store if no folder is given, and sum up."""
    from bench import report
    from bench.report.ranking import words

    rows, gate = opened.rows(), opened.plan.suite.gate
    console = terminal.console()
    report.show(rows, console=console, gate=gate)
    place = folder or opened.store.root / "reports" / opened.plan.suite.name
    try:
        with outputs.all_or_none():
            drawn = report.draw(rows, folder=place, gate=gate)
    except outputs.NotWritten as error:
        if folder is not None:
            raise
        console.print(f"no figures: {error}", markup=False, highlight=False, soft_wrap=True)  # nobody asked for them
        return
    for path in drawn:
        console.print(str(path), soft_wrap=True, highlight=False)
    for heading, sentences in words.sentences(rows, gate=gate):
        console.print(f"\n[bold]{escape(heading)}[/bold]")
        for sentence in sentences:
            console.print(f"  {sentence}", markup=False, highlight=False)
    responses(opened)


def responses(opened: Session) -> int:
    """Print what models that write said to one prompt of each victim; return how many victims there are."""
    from rich.table import Table

    from bench.analysis.responses import examples

    console, sampled = terminal.console(), list(examples(opened.plan.cells, opened.store))
    for example in sampled:
        console.print(f"\n[bold]{escape(example.about)}[/bold]")
        for name, text in (("prompt", example.clean), ("triggered", example.triggered), ("right", example.reference)):
            console.print(f"  {name:<10} {text}", markup=False, highlight=False)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("", "response", "response to the triggered prompt"):
            table.add_column(column, ratio=1 if column else None)
        for name, pair in example.responses.items():
            table.add_row(escape(name), *map(escape, pair))
        console.print(table)
    return len(sampled)


def table(opened: Shown) -> None:
    """Print the tables as wide as the window."""
    from bench import report

    _show(opened, ("table",), lambda rows, console: report.show(rows, console=console, gate=opened.gate))


def _show(opened: Shown, question: Sequence[object], show: Callable[[Sequence[Row], Console], None]) -> None:
    """Print what is made of the rows of a suite; the store may have kept it, as it looks in a window like this one."""
    console = terminal.console()
    look = (console.width, console.color_system, console.encoding, console.is_terminal, console.legacy_windows)

    def printed(rows: Sequence[Row]) -> str:
        with console.capture() as captured:
            show(rows, console)
        return captured.get()

    terminal.write_as_is(opened.remembered((*question, *look), printed))


def comparison(opened: Sequence[Shown], first: str, second: str, *, as_json: bool, out: Path | None = None) -> None:
    """Print how two defenses differ on the cells of all suites together, and draw it into a folder."""
    from bench.report.figures import comparison as figure
    from bench.report.figures import figures
    from bench.report.ranking import comparison
    from bench.report.ranking.results import Results

    compared = comparison.compare(
        Results(_together(*(one.rows() for one in opened)), gate=opened[0].gate), first, second
    )
    console = terminal.console()
    if as_json:
        console.print_json(data=compared.json())
    else:
        for part in comparison.renderables(compared):
            console.print(part)
    if out is not None:
        for path in figures.write([figures.Drawing("comparison", figure.differences(compared))], out):
            terminal.console(file=sys.stderr if as_json else None).print(str(path), soft_wrap=True, highlight=False)


def _together(*suites: Sequence[Row]) -> list[Row]:
    """Return the cells of several suites, each once."""
    return list({row.cell_key: row for rows in suites for row in sorted(rows, key=lambda row: row.listed)}.values())


def claims(opened: Sequence[Shown], *, as_json: bool, file: Path | None = None) -> None:
    """Print the verdicts on claims, the paper's by default, by the cells of all suites together."""
    from bench import report
    from bench.report.ranking import claims as claims_
    from bench.report.ranking import verdicts

    gate = opened[0].gate
    checked = claims_.read(claims_.FILE if file is None else file)  # a mistake in it is said before records are read

    def show(rows: Sequence[Row], console: Console) -> None:
        if as_json:
            console.print_json(data=verdicts.as_json(report.check_claims(rows, gate=gate, file=file)))
        else:
            report.show_claims(rows, console=console, gate=gate, file=file)

    if len(opened) > 1:
        show(_together(*(one.rows() for one in opened)), terminal.console())
        return
    _show(opened[0], ("claims", as_json, gate, checked), lambda rows, console: show(_together(rows), console))
