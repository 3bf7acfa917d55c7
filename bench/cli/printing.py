"""What the commands print of a suite: progress, status, tables and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from bench.runner import Summary
    from bench.session import Session


def run(opened: Session, **options: Any) -> Summary:
    """Run a suite with a line of progress."""
    from bench import runner

    with runner.progress(opened.plan.jobs) as on_event:
        return opened.run(on_event=on_event, **options)


def status(opened: Session) -> None:
    """Print what is done, running, waiting and failed."""
    from bench import runner

    Console().print(runner.render_status(runner.status(opened.plan.jobs, opened.store)))


def report(opened: Session, folder: Path | None = None) -> None:
    """Print the table, draw the figures, into ``reports/<suite>`` of the store if no folder is given, and sum up."""
    from bench import report
    from bench.report.ranking import words

    rows, gate = opened.rows(), opened.plan.suite.gate
    console = Console()
    report.show(rows, console=console, gate=gate)
    for path in report.draw(rows, folder=folder or opened.store.root / "reports" / opened.plan.suite.name, gate=gate):
        console.print(str(path), soft_wrap=True, highlight=False)
    for heading, told in words.sentences(rows, gate=gate):
        console.print(f"\n[bold]{escape(heading)}[/bold]")
        for sentence in told:
            console.print(f"  {sentence}", markup=False, highlight=False)


def table(opened: Session) -> None:
    """Print the tables as wide as the window."""
    from bench import report

    report.show(opened.rows(), console=Console(), gate=opened.plan.suite.gate)


def claims(opened: Sequence[Session], *, as_json: bool) -> None:
    """Print the verdicts on the paper's claims by the cells of all suites together."""
    from bench import report
    from bench.report.ranking import verdicts

    rows = {row.cell_key: row for one in opened for row in sorted(one.rows(), key=lambda row: row.listed)}
    gate = opened[0].plan.suite.gate
    if as_json:
        Console().print_json(data=verdicts.as_json(report.check_claims(rows.values(), gate=gate)))
    else:
        report.show_claims(rows.values(), console=Console(), gate=gate)
