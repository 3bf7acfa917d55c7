"""What the installed plugins say of themselves; a record may name a plugin that is not installed here."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

from bench.plugins import registry
from bench.suites.specs import split_top

_STEP = re.compile(r"\n(?=(?:\d+\.|\*) )")  # the steps of an algorithm are paragraphs of their own


@dataclass(frozen=True)
class PluginText:
    """A plugin's own words.

    Attributes:
        name: of the plugin.
        summary: first line of its docstring; empty where it is not installed.
        about: the rest of it, in paragraphs.
        citation: where it was published.
    """

    name: str
    summary: str = ""
    about: tuple[str, ...] = ()
    citation: str = ""


def parts_of(kind: str, name: str) -> list[PluginText]:
    """Return what the plugin says, or each part of a chain.

    Args:
        kind: ``attack``, ``defense`` or ``task``.
        name: without parameters; parts of a chain are joined by ``+``.
    """
    plugins: registry.Registry[Any] = getattr(registry, f"{kind}s")
    parts = []
    for part in split_top(name, "+"):
        known = plugins.entries.get("local" if kind == "task" and part.startswith("local/") else part)
        parts.append(PluginText(part) if known is None else _words(part, known.plugin))
    return parts


def _words(name: str, plugin: Any) -> PluginText:
    summary, *rest = (inspect.getdoc(plugin) or "").split("\n\n")
    paragraphs = (" ".join(part.split()) for block in rest for part in _STEP.split(block))
    return PluginText(name, " ".join(summary.split()), tuple(filter(None, paragraphs)), plugin.citation)
