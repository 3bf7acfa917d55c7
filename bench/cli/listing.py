"""``doorbench list``: the names of everything that a suite can use."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from bench.cli import terminal
from bench.contracts import Needs
from bench.contracts.kind import BOTH, in_words
from bench.errors import RequestError, unknown
from bench.plugins import registry

KINDS = ("attacks", "payloads", "defenses", "tasks", "measures", "models", "suites")
DEFENSE_KINDS = ("purification", "training", "filter", "detection")
BUILT_IN = "built-in"
NARROWEST = 36  # characters of a column of summaries
NOTHING = "nothing"  # the need of a defense that reads only the model
Listing = list[dict[str, Any]]


def listing(kind: str, *, of_kind: str | None = None, needs: Iterable[str] = ()) -> Listing:
    """Return name, summary and origin of everything of one kind, and of defenses also their kind and needs.

    Args:
        kind: one of ``KINDS``.
        of_kind: only defenses of this kind, see ``DEFENSE_KINDS``.
        needs: only defenses that need nothing else; for those that need only the model, say ``nothing``.

    Raises:
        RequestError: a kind or a need is unknown, or is asked of something that is no defense.
    """
    wanted = list(needs)
    if kind in KINDS and kind != "defenses" and (of_kind or wanted):
        raise RequestError("--kind and --needs are for `doorbench list defenses`.")
    if of_kind is not None and of_kind not in DEFENSE_KINDS:
        raise unknown("--kind", of_kind, DEFENSE_KINDS)
    for need in wanted:
        if need not in (known := [*map(str, Needs), NOTHING]):
            raise unknown("--needs", need, known)
    match kind:
        case "attacks" | "defenses":
            return _attacks() if kind == "attacks" else _defenses(of_kind, wanted)
        case "payloads":
            return _plugins(registry.payloads)
        case "measures":
            return _plugins(registry.measures)
        case "tasks":
            from bench.suites import specs
            from bench.tasks.local import local_folders

            folders = [specs.local(folder) for folder in local_folders()]
            return [*_plugins(registry.tasks), *(_row(name, "a folder in DOORBENCH_DATA", "local") for name in folders)]
        case "models":
            from bench.models import pretrained

            return [_row(name, summary, BUILT_IN) for name, summary in pretrained.list_models().items()]
        case "suites":
            from bench.suites import suite

            return [_row(name, suite.describe(name), BUILT_IN) for name in suite.built_in()]
    raise unknown("kind", kind, KINDS)


def _plugins(plugins: registry.Registry[Any]) -> Listing:
    return [
        {
            **_row(name, entry.plugin.summary(), entry.origin),
            "kinds": "both" if entry.plugin.kinds == BOTH else in_words(entry.plugin.kinds),
        }
        for name, entry in sorted(plugins.entries.items())
    ]


def _defenses(of_kind: str | None, wanted: Collection[str]) -> Listing:
    rows = []
    for row in _plugins(registry.defenses):
        plugin = registry.defenses.get(str(row["name"]))
        if of_kind in (None, plugin.kind) and (not wanted or plugin.needs <= set(wanted)):
            rows.append({**row, "kind": plugin.kind, "needs": [str(need) for need in Needs if need in plugin.needs]})
    return rows


def _attacks() -> Listing:
    modifiers = [
        {**row, "summary": f"{row['summary']} A modifier: {row['name']}+ATTACK."}
        for row in _plugins(registry.modifiers)
    ]
    return sorted([*_plugins(registry.attacks), *modifiers], key=lambda row: str(row["name"]))


def _row(name: str, summary: str, origin: str) -> dict[str, str]:
    return {"name": name, "summary": summary, "origin": origin}


def show(rows: Listing) -> None:
    """Print a listing as a table, or with each summary below its name where a column would be too narrow for it."""
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    console = terminal.console()
    foreign = any(row["origin"] != BUILT_IN for row in rows)
    columns = ["name", *(name for name in ("kind", "needs", "kinds") if any(name in row for row in rows))]
    columns += ["origin"] if foreign else []
    words = [{name: _words(name, value) for name, value in row.items()} for row in rows]
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in words)) for name in columns} if rows else {}
    beside = console.width - sum(widths.values()) - len(columns) >= NARROWEST
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, no_wrap=True)
    if beside:
        table.add_column("summary", ratio=1)
        for row in words:
            table.add_row(*(escape(row.get(name, "")) for name in (*columns, "summary")))
        console.print(table)
        return
    for row in words:
        facts = " · ".join(
            f"needs {row[name]}" if name == "needs" else row[name] for name in columns[1:] if name in row
        )
        console.print(f"[bold]{escape(row['name'])}[/bold]  {escape(facts)}", highlight=False)
        console.print(Padding(escape(row["summary"]), (0, 0, 0, 4)), highlight=False)


def _words(name: str, value: Any) -> str:
    return ", ".join(value) or NOTHING if name == "needs" else str(value)
