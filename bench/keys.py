"""Cache keys: canonical JSON of the whole recipe, SHA-256."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

Recipe = Mapping[str, Any]
_HOLE = "\0"  # which canonical JSON never holds
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical(recipe: Any) -> str:
    """Return JSON with sorted keys and no spaces; NaN, infinities and non-JSON values are refused."""
    return _ENCODER.encode(recipe)


def key_of(recipe: Recipe) -> str:
    """Return the key of a recipe: 64 hexadecimal digits."""
    return _digest(canonical(recipe))


def key_of_fields(fields: Mapping[str, str]) -> str:
    """Return the key of a recipe whose fields are canonical JSON already, so that none is encoded twice.

    Args:
        fields: canonical JSON by the name of the field.
    """
    return _digest(_joined(fields))


class Keys:
    """The keys of many recipes that differ in one field: what comes before it is hashed once.

    Args:
        fields: canonical JSON by the name of the field, of all others.
        last: the name of the field that differs.
    """

    def __init__(self, fields: Mapping[str, str], last: str) -> None:
        before, self._after = (part.encode() for part in _joined({**fields, last: _HOLE}).split(_HOLE))
        self._begun = hashlib.sha256(before)

    def of(self, value: str) -> str:
        """Return the key of the recipe with a value of the field, given as canonical JSON."""
        digest = self._begun.copy()
        digest.update(value.encode() + self._after)
        return digest.hexdigest()


def _joined(fields: Mapping[str, str]) -> str:
    return "{" + ",".join([f"{_name(name)}:{fields[name]}" for name in sorted(fields)]) + "}"


_name = cache(canonical)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
