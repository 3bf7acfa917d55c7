"""Cache keys: canonical JSON of the whole recipe, SHA-256."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Recipe = Mapping[str, Any]
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical(recipe: Recipe) -> str:
    """Return JSON with sorted keys and no spaces; NaN, infinities and non-JSON values are refused."""
    return _ENCODER.encode(recipe)


def key_of(recipe: Recipe) -> str:
    """Return the key of a recipe: 64 hexadecimal digits."""
    return _digest(canonical(recipe))


def key_with(recipe: Recipe, field: str, spelt: str) -> str:
    """Return the key of a recipe of which one field is there as canonical JSON already, so that it is spelt only once.

    Args:
        recipe: has None in the place of the field, and no field of that name further inside.
        field: its name, letters only.
        spelt: its canonical JSON.
    """
    return _digest(canonical(recipe).replace(f'"{field}":null', f'"{field}":{spelt}', 1))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
