"""``doorbench list`` and ``doorbench describe``: everything is read from the plugins themselves."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from bench import registry
from bench.contracts import Attack, Defense, Modifier, Plugin
from bench.errors import RequestError, unknown

KINDS = ("attacks", "defenses", "tasks", "models", "suites")
Listing = list[dict[str, Any]]


def listing(kind: str) -> Listing:
    """Return name, summary and origin of everything of one kind."""
    match kind:
        case "attacks" | "defenses":
            return _plugins(registry.defenses) if kind == "defenses" else _attacks()
        case "tasks":
            from bench.tasks.local import local_folders

            folders = [f"local/{folder}" for folder in local_folders()]
            return [*_plugins(registry.tasks), *(_row(name, "a folder in DOORBENCH_DATA", "local") for name in folders)]
        case "models":
            from bench import plm

            return [_row(name, told, "built-in") for name, told in plm.list_models().items()]
        case "suites":
            from bench import suite

            return [_row(name, suite.describe(name), "built-in") for name in suite.built_in()]
    raise unknown("kind", kind, KINDS)


def _plugins(plugins: registry.Registry[Any]) -> Listing:
    return [_row(name, found.plugin.summary(), found.origin) for name, found in sorted(plugins.found.items())]


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
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("summary", ratio=1)
    table.add_column("origin", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(row[key]) for key in ("name", "summary", "origin")))
    Console().print(table)


def find(name: str) -> type[Plugin]:
    """Return the plugin of a name, whatever its kind."""
    kinds: tuple[registry.Registry[Any], ...] = (
        registry.attacks,
        registry.modifiers,
        registry.defenses,
        registry.tasks,
    )
    for plugins in kinds:
        if name in plugins.found or name in plugins.broken:
            plugin: type[Plugin] = plugins.get(name)
            return plugin
    if "+" in name:
        raise RequestError(f"{name!r} is a chain; describe its parts: {', '.join(name.split('+'))}.")
    raise unknown("plugin", name, [n for plugins in kinds for n in plugins.names()])


def description(name: str) -> dict[str, Any]:
    """Return everything a plugin says of itself, as JSON values."""
    plugin = find(name)
    kinds = {Attack: "attack", Modifier: "modifier", Defense: "defense"}
    kind = next((kind for base, kind in kinds.items() if issubclass(plugin, base)), "task")
    schema = plugin.model_json_schema(by_alias=True)
    found = {
        "name": plugin.name,
        "kind": kind,
        "version": plugin.version,
        "citation": plugin.citation,
        "about": inspect.getdoc(plugin) or "",
        "parameters": {field: _parameter(told, schema) for field, told in schema.get("properties", {}).items()},
    }
    if issubclass(plugin, Modifier):
        found["written alone"] = f"{plugin.name}+{plugin.default}"
    if issubclass(plugin, Defense):
        found["needs"] = sorted(str(need) for need in plugin.needs)
        found["can be followed by another defense"] = plugin.purifies
    return found


_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _parameter(told: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    forms = [_resolved(form, schema) for form in told.get("anyOf", [told])]
    bounds = [f"{sign} {form[key]}" for form in forms for key, sign in _BOUNDS.items() if key in form]
    choices = [str(value) for form in forms for value in form.get("enum", [form["const"]] if "const" in form else [])]
    kinds = [form.get("type", "") for form in forms]
    return {
        "type": " | ".join({"array": "list", "null": "none"}.get(kind, kind) for kind in kinds),
        "bounds": ", ".join(bounds),
        "choices": choices,
        "default": told.get("default"),
        "about": told.get("description", ""),
    }


def _resolved(form: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in form:
        return form
    found: dict[str, Any] = schema["$defs"][form["$ref"].rpartition("/")[2]]
    return found


def in_words(found: dict[str, Any]) -> str:
    """Return a description as plain text."""
    lines = [f"{found['name']} ({found['kind']}, version {found['version']})", "", found["about"], ""]
    if found["citation"]:
        lines.append(f"citation: {found['citation']}")
    if "written alone" in found:
        lines.append(f"modifies: any attack: {found['name']}+ATTACK; alone it is {found['written alone']}")
    if "needs" in found:
        lines.append(f"needs:    {', '.join(found['needs']) or 'nothing but the model'}")
    lines.append("parameters:" if found["parameters"] else "parameters: none")
    for field, told in found["parameters"].items():
        limits = " | ".join(told["choices"]) or ", ".join(filter(None, (told["type"], told["bounds"])))
        default = "none" if told["default"] is None else told["default"]
        lines.append(f"  {field} = {default}   [{limits}]")
        lines += textwrap.wrap(told["about"], 110, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)
