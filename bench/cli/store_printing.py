"""What ``doorbench store`` prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table

from bench.cli import terminal
from bench.errors import plain
from bench.experiment.result_store import ResultStore
from bench.store.words import ago, counted, size

WIDTH_OF_A_PIPE = 1000  # characters of what goes into a file or a pipe, so that each row stays on one line
KEY_DIGITS = 12  # shown of a key; enough to name it


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not sys.stdout.isatty() and (lines := _plain_lines(columns, rows)) is not None:
        terminal.say("\n".join(lines))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name, no_wrap=number == 0, min_width=KEY_DIGITS if number == 0 else 0, overflow="fold")
    for row in rows:
        table.add_row(*(escape(text) for text in row))
    terminal.console(width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE).print(table)


def _plain_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str] | None:
    """Return a table as rich prints it into a pipe, a hundred times as fast; None where a line does not fit."""
    padded, width = [], -2
    for number, name in enumerate(columns):
        cells = [name, *(row[number] for row in rows)]
        texts = {cell: plain(cell) for cell in dict.fromkeys(cells)}  # most columns have few different ones
        if any("\n" in text for text in texts.values()):
            return None
        sizes = {cell: cell_len(text) for cell, text in texts.items()}
        widest = max(KEY_DIGITS if number == 0 else 0, *sizes.values())
        filled = {cell: text + " " * (widest - sizes[cell]) for cell, text in texts.items()}
        padded.append([filled[cell] for cell in cells])
        width += widest + 2
    return None if width > WIDTH_OF_A_PIPE else list(map("  ".join, zip(*padded, strict=True)))


def explain(folder: Path | None, key: str) -> None:
    """Print what one key stands for."""
    terminal.console().print(
        ResultStore(folder, create=False).explain(key), markup=False, highlight=False, soft_wrap=True
    )


def show(folder: Path | None) -> None:
    """Print a list of every victim and record."""
    rows = [
        (
            row.key[:KEY_DIGITS],
            row.kind,
            row.task,
            row.attack,
            row.defense,
            str(row.seed),
            row.status,
            size(row.bytes),
            ago(row.age),
        )
        for row in ResultStore(folder, create=False).ls()
    ]
    _print(("key", "kind", "task", "attack", "defense", "seed", "status", "size", "age"), rows)


def verify(folder: Path | None) -> bool:
    """Check everything; return whether something was damaged."""
    report = ResultStore(folder, create=False).verify()
    checked = ", ".join(f"{count} {room}" for room, count in report.checked.items())
    console = terminal.console()
    console.print(f"checked {checked}")
    for title, problems in (
        ("damaged and set aside", report.damaged),
        ("of a newer version, left alone", report.newer),
        ("not readable, left alone", report.unreadable),
    ):
        for problem in problems:
            console.print(
                f"{title}: {problem.room} {problem.key[:KEY_DIGITS]}: {escape(problem.reason)}", soft_wrap=True
            )
    return not report.ok


def add(folder: Path | None, source: Path) -> bool:
    """Add the records of a folder. If one of them is wrong, print why, add none, and return False.

    Records of another version of a plugin or of an area of code are left out, because a run would not use them.
    """
    from bench.results import submission

    console = terminal.console()
    checked = submission.check(source)
    for problem in checked.wrong:
        console.print(escape(str(problem)), soft_wrap=True)
    if checked.wrong:
        return False
    store, added, known = ResultStore(folder), 0, 0
    for record in submission.records(source, without=checked.outdated):
        if store.has_record(record.key):
            known += 1
        else:
            store.put_record(record.key, record.document())
            added += 1
    summary = [f"added {added} of {counted(checked.records, 'record')}"]
    summary += [f"{known} {'was' if known == 1 else 'were'} in the store already"] if known else []
    if many := len(checked.outdated):
        summary.append(f"{many} {'is' if many == 1 else 'are'} of another version and to be run again")
    console.print("; ".join(summary))
    return True


def diff(folder: Path | None, first: str, second: str) -> None:
    """Print the ingredients in which two recipes differ."""
    rows = [(path, repr(a), repr(b)) for path, a, b in ResultStore(folder, create=False).diff(first, second)]
    _print(("ingredient", first[:KEY_DIGITS], second[:KEY_DIGITS]), rows)


def collect(folder: Path | None, *, keep: list[str], cap_gb: float | None, apply: bool) -> None:
    """Print what can be freed, and free it where ``apply`` says so."""
    from bench.experiment.plan import Plan
    from bench.suites import suite

    kept = {key for name in keep for one in suite.load_all(name) for key in Plan(one).victims}
    cap = None if cap_gb is None else int(cap_gb * 1e9)
    freed = ResultStore(folder, create=False).gc(keep=kept, cap_bytes=cap, apply=apply)
    _print(
        ("what", "name", "size", "why"),
        [(item.kind, item.name[:KEY_DIGITS], size(item.bytes), item.reason) for item in freed],
    )
    total = size(sum(item.bytes for item in freed if item.freed or not apply))
    terminal.console().print(f"freed {total}" if apply else f"would free {total}; say --apply to do it")
