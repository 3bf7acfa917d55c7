"""The reference of what can be imported: written from signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from typing import Any

ROOMS = {
    "doorbench": "For notebooks and scripts.",
    "doorbench.contracts": "What a plugin of your own imports.",
    "doorbench.tasks": "What a task of your own imports.",
    "doorbench.learning": "Training and prediction, for plugins.",
    "doorbench.conformance": "The checks that every plugin has to pass; `doorbench check` runs them.",
}
_BEHIND = {"doorbench.learning": "bench.learning", "doorbench.conformance": "bench.conformance"}
_SECTION = re.compile(r"^(Args|Attributes|Class attributes|Returns|Raises|Yields):$")
_ROOM = re.compile(r"\b(?:typing|collections\.abc|pathlib|bench(?:\.\w+)*)\.")
_QUOTED = re.compile(r"(: |-> )'([^']*)'")  # an annotation; a default keeps its quotes
_ROLE = re.compile(r":\w+:`~?([^`]+)`")


def page() -> str:
    """Return the Markdown of the page."""
    about = "Every public name, from its docstring. [Use it from Python](../python.md) shows how they work together."
    lines = ["# Python", "", about, ""]
    for room, about in ROOMS.items():
        lines += [f"## {room}", "", about, ""]
        for name, value in sorted(public(room).items()):
            lines += _entry(name, value)
    return "\n".join(lines) + "\n"


def public(room: str) -> dict[str, Any]:
    """Return what a module offers by name: its own classes and functions, without modules and type aliases."""
    module = import_module(_BEHIND.get(room, room))
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    objects = {name: getattr(module, name) for name in names}
    return {name: value for name, value in objects.items() if inspect.isclass(value) or inspect.isfunction(value)}


def members(kind: type) -> Iterator[tuple[str, str, str]]:
    """Yield name, signature and first sentence of the public methods and properties that a class itself defines."""
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property | cached_property):
            function = value.fget if isinstance(value, property) else value.func
            yield name, "", _first(function)
        elif isinstance(value, classmethod | staticmethod):
            yield name, _signature(value.__func__), _first(value.__func__)
        elif inspect.isfunction(value):
            yield name, _signature(value), _first(value)


def table_of_members(kind: type) -> str:
    """Return a Markdown table of the public methods and properties of a class."""
    rows = [f"| `{name}{signature}` | {first} |" for name, signature, first in members(kind)]
    return "\n".join(["| | |", "|---|---|", *rows])


def _entry(name: str, value: Any) -> Iterator[str]:
    yield from (f"### {name}", "")
    if inspect.isfunction(value):
        yield from (f"    {name}{_signature(value)}", "")
    yield from (docstring(inspect.getdoc(value) or ""), "")
    if inspect.isclass(value) and any(True for _ in members(value)):
        yield from (table_of_members(value), "")


def docstring(text: str) -> str:
    """Return a docstring as Markdown: sections become lists, names in double back quotes code."""
    lines, inside = [], False
    for line in text.splitlines():
        if title := _SECTION.match(line):
            lines += [f"**{title[1]}**", ""]
            inside = True
        elif inside and line.startswith("    ") and not line.startswith("     "):
            name, colon, about = line.strip().partition(": ")
            lines.append(f"* `{name}`: {about}" if colon else f"* {line.strip()}")
        elif inside and not line.startswith(" "):
            lines.append(line)
            inside = not line
        elif line.lstrip().startswith(">>>"):
            lines.append(f"    {line.strip()}")
        else:
            lines.append(line.replace("        ", "  ", 1) if inside else line)
    return _escaped(_ROLE.sub(r"``\1``", "\n".join(lines)))


def _escaped(text: str) -> str:
    """Return a text whose names in double back quotes are code, and whose angles are not tags."""
    pieces = text.split("``")
    return "".join(f"`{piece}`" if i % 2 else piece.replace("<", "&lt;") for i, piece in enumerate(pieces))


def _signature(function: Any) -> str:
    text = _QUOTED.sub(r"\1\2", str(inspect.signature(function)))
    text = re.sub(r"\((?:self|cls)(?:, )?", "(", text, count=1)
    return _ROOM.sub("", text)


def _first(function: Any) -> str:
    """Return the first sentence of a docstring, for a cell of a table."""
    first = (inspect.getdoc(function) or "").split("\n\n")[0]
    return _escaped(_ROLE.sub(r"``\1``", " ".join(first.split()))).replace("|", "\\|")
