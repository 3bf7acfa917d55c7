"""What the plugins say of themselves: everything is read from their fields and docstrings."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from bench.contracts import Attack, Defense, Modifier, Plugin
from bench.errors import RequestError, unknown
from bench.plugins import registry


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
