"""``doorbench list``: the names of everything that a suite can use."""

from __future__ import annotations

from typing import Any

from bench.cli import terminal
from bench.contracts.kind import BOTH, in_words
from bench.errors import unknown
from bench.plugins import registry

KINDS = ("attacks", "payloads", "defenses", "tasks", "models", "suites")
Listing = list[dict[str, Any]]


def listing(kind: str) -> Listing:
    """Return name, summary and origin of everything of one kind."""
    match kind:
        case "attacks" | "defenses":
            return _plugins(registry.defenses) if kind == "defenses" else _attacks()
        case "payloads":
            return _plugins(registry.payloads)
        case "tasks":
            from bench.suites import specs
            from bench.tasks.local import local_folders

            folders = [specs.local(folder) for folder in local_folders()]
            return [*_plugins(registry.tasks), *(_row(name, "a folder in DOORBENCH_DATA", "local") for name in folders)]
        case "models":
            from bench.models import pretrained

            return [_row(name, summary, "built-in") for name, summary in pretrained.list_models().items()]
        case "suites":
            from bench.suites import suite

            return [_row(name, suite.describe(name), "built-in") for name in suite.built_in()]
    raise unknown("kind", kind, KINDS)


def _plugins(plugins: registry.Registry[Any]) -> Listing:
    return [
        {
            **_row(name, found.plugin.summary(), found.origin),
            "kinds": "both" if found.plugin.kinds == BOTH else in_words(found.plugin.kinds),
        }
        for name, found in sorted(plugins.found.items())
    ]


def _attacks() -> Listing:
    modifiers = [
        {**row, "summary": f"{row['summary']} A modifier: {row['name']}+ATTACK."}
        for row in _plugins(registry.modifiers)
    ]
    return sorted([*_plugins(registry.attacks), *modifiers], key=lambda row: str(row["name"]))


def _row(name: str, summary: str, origin: str) -> dict[str, str]:
    return {"name": name, "summary": summary, "origin": origin}


def show(rows: Listing) -> None:
    """Print a listing as a table that fits the window."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("summary", ratio=1)
    kinds = ["kinds"] if any("kinds" in row for row in rows) else []
    for column in (*kinds, "origin"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(escape(row.get(key, "")) for key in ("name", "summary", *kinds, "origin")))
    terminal.console().print(table)
