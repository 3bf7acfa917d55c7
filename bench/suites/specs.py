"""The short text form of a plugin in suites and on the command line: ``name(field=value, ...)``, joined by ``+``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bench.contracts.plugin import quoted
from bench.errors import RequestError
from bench.suites import strict

LOCAL = "local/"  # before the folder of a task
_NAME = re.compile(r"[^\s()=,+]+")


def split_top(text: str, separator: str) -> list[str]:
    """Split at a separator, but not inside brackets or quotes: ``a(x=[1,2]),b(y="c,d")`` gives two parts."""
    parts, depth, start = [], 0, 0
    for i, (character, inside) in enumerate(strict.with_quotes(text)):
        if inside:
            continue
        depth += (character in "([{") - (character in ")]}")
        if character == separator and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return [part.strip() for part in parts]


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the fields of one plugin: ``"badword(rate=0.05)"`` gives ``("badword", {"rate": 0.05})``.

    A text with a comma, a bracket, ``#`` or the like stands in double quotes.
    """
    name, bracket, rest = text.strip().partition("(")
    name = name.strip()
    if not _NAME.fullmatch(name) or (bracket and not rest.rstrip().endswith(")")):
        raise RequestError(f"cannot read {text!r}; write {_how(text)}.")
    fields: dict[str, Any] = {}
    body = rest.rstrip()[:-1]
    for part in split_top(body, ",") if body.strip() else ():
        field, equals, value = part.partition("=")
        if not equals or not field.strip():
            raise RequestError(f"cannot read {part!r} in {text!r}; write {_how(text)}.")
        if field.strip() in fields:
            raise RequestError(f"field {field.strip()!r} is given twice in {text!r}.")
        fields[field.strip()] = strict.load_value(value, f"field {field.strip()!r} in {text[:200]!r}")
    return name, fields


def local(folder: str) -> str:
    """Return how a suite spells the task in a folder: ``local/mine``, or with quotes where the name needs them."""
    return f"local/{folder}" if _NAME.fullmatch(folder) else f"local(folder={quoted(folder)})"


def _how(text: str) -> str:
    if text.strip().startswith(LOCAL):
        return local(text.strip().removeprefix(LOCAL))
    return "name or name(field=value, field=value); a text with commas goes into double quotes"


def parse_entry(entry: str | Mapping[str, Any], kind: str) -> tuple[str, dict[str, Any]]:
    """Return name and fields of a suite entry: the short text, or a mapping with ``name`` and fields."""
    if isinstance(entry, str):
        return parse(entry)
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise RequestError(f"{kind}: {entry!r} is neither a text nor a mapping with a name.")
    return entry["name"], {str(k): v for k, v in entry.items() if k != "name"}
