"""Records of the same cells from machines with other versions of the libraries that change numbers.

A run never takes them for its own. A reader may show them, because each says which versions made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.keys import key_of

if TYPE_CHECKING:
    from bench.store import Store


def records_by_recipe(store: Store) -> dict[str, dict[str, Any]]:
    """Return the records of a store by what :func:`apart_from_libraries` makes of their recipes."""
    return {apart_from_libraries(record["recipe"]): record for record in store.records() if record.get("recipe")}


def apart_from_libraries(recipe: Mapping[str, Any]) -> str:
    """Return the key of a recipe without the versions of libraries in it: 64 hexadecimal digits."""
    return key_of(_without(recipe))


def _without(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without(inner) for name, inner in value.items() if name != "libraries"}
    return [_without(inner) for inner in value] if isinstance(value, list | tuple) else value
