"""What ``doorbench store`` prints."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.store import Store
from bench.store.words import ago, size

LINE = 1000  # columns of what goes into a file or a pipe, so that a row is a line
KEY_DIGITS = 12  # of a key that are shown; enough to name it


def _print(columns: Iterable[str], lines: Iterable[Iterable[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(columns):
        table.add_column(name, no_wrap=place == 0, min_width=KEY_DIGITS if place == 0 else 0, overflow="fold")
    for line in lines:
        table.add_row(*(escape(text) for text in line))
    Console(width=None if sys.stdout.isatty() else LINE).print(table)


def explain(folder: Path | None, key: str) -> None:
    """Say what one key stands for."""
    Console().print(Store(folder).explain(key), markup=False, highlight=False, soft_wrap=True)


def show(folder: Path | None) -> None:
    """List every victim and record in words."""
    lines = [
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
        for row in Store(folder).ls()
    ]
    _print(("key", "kind", "task", "attack", "defense", "seed", "status", "size", "age"), lines)


def verify(folder: Path | None) -> bool:
    """Check everything; return whether something was damaged."""
    found = Store(folder).verify()
    checked = ", ".join(f"{count} {room}" for room, count in found.checked.items())
    console = Console()
    console.print(f"checked {checked}")
    for title, problems in (("damaged and set aside", found.damaged), ("of a newer version, left alone", found.newer)):
        for problem in problems:
            console.print(
                f"{title}: {problem.room} {problem.key[:KEY_DIGITS]}: {escape(problem.reason)}", soft_wrap=True
            )
    return not found.ok


def add(folder: Path | None, source: Path) -> bool:
    """Add the records of a folder; False where one of them is wrong, and then none is added.

    Records of another version of a plugin or a room are left out: a run would not use them.
    """
    from bench.results import submission

    console = Console()
    checked = submission.check(source)
    for problem in checked.wrong:
        console.print(escape(str(problem)), soft_wrap=True)
    if checked.wrong:
        return False
    store, added, there = Store(folder), 0, 0
    for record in submission.read(source, without=checked.outdated):
        if store.has_record(record["key"]):
            there += 1
        else:
            store.put_record(record["key"], record)
            added += 1
    told = [f"added {added} of {checked.records} records"]
    told += [f"{there} were there already"] if there else []
    told += [f"{len(checked.outdated)} are of another version and have to be run again"] if checked.outdated else []
    console.print("; ".join(told))
    return True


def diff(folder: Path | None, first: str, second: str) -> None:
    """Print the ingredients in which two recipes differ."""
    lines = [(path, repr(a), repr(b)) for path, a, b in Store(folder).diff(first, second)]
    _print(("ingredient", first[:KEY_DIGITS], second[:KEY_DIGITS]), lines)


def collect(folder: Path | None, *, keep: list[str], cap_gb: float | None, apply: bool) -> None:
    """Print what can be freed, and free it where ``apply`` says so."""
    from bench.experiment.plan import Plan
    from bench.suites import suite

    kept = {key for name in keep for one in suite.load_all(name) for key in Plan(one).victims}
    cap = None if cap_gb is None else int(cap_gb * 1e9)
    freed = Store(folder).gc(keep=kept, cap_bytes=cap, apply=apply)
    _print(
        ("what", "name", "size", "why"),
        [(item.kind, item.name[:KEY_DIGITS], size(item.bytes), item.reason) for item in freed],
    )
    total = size(sum(item.bytes for item in freed if item.freed or not apply))
    Console().print(f"freed {total}" if apply else f"would free {total}; say --apply to do it")
