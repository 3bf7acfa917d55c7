"""Records with something wrong in them: any field replaced, dropped or added."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from bench.keys import key_of

FILE = Path(__file__).parents[1] / "historic_records" / "v1" / "fine-mixing.json"
WRONG: list[Any] = [None, True, "abc", "", 7, -1, 2.5, [], ["x"], {}, {"a": {"b": 1}}]
HUGE: list[Any] = [float("nan"), float("inf"), 10**400, 1e308, -(2**63), "\ud800", "x" * 10_000, "a\nb\x1b[31m"]


@cache
def _original() -> str:
    return json.dumps(json.loads(FILE.read_bytes())["record"])


def original() -> dict[str, Any]:
    """Return a record of a defended cell."""
    record: dict[str, Any] = json.loads(_original())
    return record


def paths(value: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything inside a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield (*above, name)
        yield from paths(one, *above, name)


PATHS = sorted(paths(original()), key=str)
# Where a type is promised; what is below parameters, a budget, and the notes of a plugin may be any JSON value.
_FREE = {"parameters", "budget", "notes"}
TYPED = [path for path in PATHS if not _FREE & set(path[:-1]) and all(isinstance(name, str) for name in path)]


def kind(value: Any) -> str:
    """Return what JSON calls a value; whole numbers are numbers."""
    return "number" if type(value) in (int, float) else type(value).__name__


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Replace what is at a path; return what was there."""
    for name in path[:-1]:
        document = document[name]
    before, document[path[-1]] = document[path[-1]], value
    return before


def drop(document: Any, path: tuple[Any, ...]) -> None:
    """Remove what is at a path."""
    for name in path[:-1]:
        document = document[name]
    del document[path[-1]]


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """Return a record with one or two damages; some get the keys that their recipe has then."""
    document = copy.deepcopy(original())
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(PATHS))
        try:
            if draw(st.integers(0, 9)) == 0:
                drop(document, path)
            else:
                put(document, path, draw(st.sampled_from([*WRONG, *HUGE])))
        except (KeyError, IndexError, TypeError):
            continue  # the first damage took away where the second one goes
    return rekeyed(document) if draw(st.booleans()) else document


def rekeyed(document: Any) -> Any:
    """Return the document with the keys of its recipe, where that has any."""
    try:
        recipe = document["recipe"]
        victim = key_of(recipe["victim"])
        return {**document, "victim_key": victim, "key": key_of({**recipe, "victim": victim})}
    except (ValueError, KeyError, TypeError):
        return document
