"""What the installed plugins say of themselves; a record may name a plugin that is not installed here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.plugins import registry
from bench.plugins.works import Work, works
from bench.suites.specs import split_top

DATA = Path(__file__).with_name("data.yaml")
_STEP = re.compile(r"\n(?=(?:\d+\.|\*) )")  # the steps of an algorithm are paragraphs of their own


@dataclass(frozen=True)
class About:
    """A plugin's own words.

    Attributes:
        name: of the plugin.
        summary: first line of its docstring; empty where it is not installed.
        details: the rest of it, in paragraphs.
        citation: where it was published.
    """

    name: str
    summary: str = ""
    details: tuple[str, ...] = ()
    citation: str = ""

    @property
    def works(self) -> list[Work]:
        """The works that it cites."""
        return works(self.citation)


def about(kind: str, name: str) -> list[About]:
    """Return what the plugin says, or each part of a chain.

    Args:
        kind: ``attack``, ``defense`` or ``task``; of a model nothing is said here.
        name: without parameters; parts of a chain are joined by ``+``.
    """
    if kind == "model":
        return []
    plugins: registry.Registry[Any] = getattr(registry, f"{kind}s")
    parts = []
    for part in split_top(name, "+"):
        known = plugins.entries.get(task_base(part).partition("/")[0] if kind == "task" else part)
        parts.append(About(part) if known is None else _words(part, known.plugin))
    return parts


def _words(name: str, plugin: Any) -> About:
    summary, *rest = (inspect.getdoc(plugin) or "").split("\n\n")
    paragraphs = (" ".join(part.split()) for block in rest for part in _STEP.split(block))
    return About(name, " ".join(summary.split()), tuple(filter(None, paragraphs)), plugin.citation)


def task_base(name: str) -> str:
    """Return the plugin behind a task's name, without brackets and fields."""
    return re.split(r"[ (\[]", name, maxsplit=1)[0]


def data_of(name: str) -> tuple[str, str]:
    """Return where the data of a task comes from and under what terms, as far as this project knows.

    Generated tasks and data sets of the Hub are known; files of somebody's own are not.
    """
    known: Mapping[str, Mapping[str, str]] = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    entry = known.get(task_base(name).partition("/")[0], {})
    return entry.get("source", ""), entry.get("licence", "")
