"""What the plugins say of themselves: everything is read from their fields and docstrings."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from pydantic import BaseModel

from bench.contracts import Attack, Defense, Kind, Measure, Modifier, Payload, Plugin
from bench.errors import RequestError, unknown
from bench.plugins import registry


def find(name: str) -> type[Plugin]:
    """Return the plugin of a name, whatever its kind."""
    kinds: tuple[registry.Registry[Any], ...] = (
        registry.attacks,
        registry.modifiers,
        registry.payloads,
        registry.defenses,
        registry.tasks,
        registry.measures,
    )
    loaded = [plugins for plugins in kinds if name in plugins.entries]
    for plugins in loaded or [plugins for plugins in kinds if name in plugins.broken]:
        plugin: type[Plugin] = plugins.get(name)
        return plugin
    if "+" in name:
        raise RequestError(f"{name!r} is a chain; describe its parts: {', '.join(name.split('+'))}.")
    names = [n for plugins in kinds for n in plugins.names()]
    raise unknown("plugin", name, names, listing="doorbench list attacks|defenses|tasks")


def description(name: str) -> dict[str, Any]:
    """Return everything a plugin says of itself, as JSON values."""
    plugin = find(name)
    kinds = {Attack: "attack", Modifier: "modifier", Payload: "payload", Defense: "defense", Measure: "measure"}
    kind = next((kind for base, kind in kinds.items() if issubclass(plugin, base)), "task")
    entry = {
        "name": plugin.name,
        "kind": kind,
        "version": plugin.version,
        "citation": plugin.citation,
        "about": inspect.getdoc(plugin) or "",
        "models": [kind.value for kind in Kind if kind in plugin.kinds],
        "parameters": parameters(plugin),
    }
    if issubclass(plugin, Modifier):
        entry["written alone"] = f"{plugin.name}+{plugin.default}"
    if issubclass(plugin, Defense):
        entry["needs"] = sorted(str(need) for need in plugin.needs)
        entry["can be followed by another defense"] = plugin.purifies
    return entry


def parameters(model: type[BaseModel]) -> dict[str, Any]:
    """Return type, bounds, choices, default and meaning of every field of a model, as JSON values."""
    schema = model.model_json_schema(by_alias=True)
    return {name: _parameter(own, schema) for name, own in schema.get("properties", {}).items()}


_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _parameter(field_schema: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    forms = [_resolved(form, schema) for form in field_schema.get("anyOf", [field_schema])]
    bounds = [f"{sign} {form[key]}" for form in forms for key, sign in _BOUNDS.items() if key in form]
    choices = [str(value) for form in forms for value in form.get("enum", [form["const"]] if "const" in form else [])]
    kinds = [form.get("type", "") for form in forms]
    return {
        "type": " | ".join({"array": "list", "null": "none"}.get(kind, kind) for kind in kinds),
        "bounds": ", ".join(bounds),
        "choices": choices,
        "default": field_schema.get("default"),
        "about": field_schema.get("description", ""),
    }


def _resolved(form: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in form:
        return form
    definition: dict[str, Any] = schema["$defs"][form["$ref"].rpartition("/")[2]]
    return definition


def in_words(entry: dict[str, Any]) -> str:
    """Return a description as plain text."""
    lines = [f"{entry['name']} ({entry['kind']}, version {entry['version']})", "", entry["about"], ""]
    if entry["citation"]:
        lines.append(f"citation: {entry['citation']}")
    lines.append(f"models:   {', '.join(entry['models'])}")
    if "written alone" in entry:
        lines.append(f"modifies: any attack: {entry['name']}+ATTACK; alone it is {entry['written alone']}")
    if "needs" in entry:
        lines.append(f"needs:    {', '.join(entry['needs']) or 'nothing but the model'}")
    lines.append("parameters:" if entry["parameters"] else "parameters: none")
    for field, parameter in entry["parameters"].items():
        limits = " | ".join(parameter["choices"]) or ", ".join(filter(None, (parameter["type"], parameter["bounds"])))
        default = "none" if parameter["default"] is None else parameter["default"]
        lines.append(f"  {field} = {default}   [{limits}]")
        lines += textwrap.wrap(parameter["about"], 110, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)
