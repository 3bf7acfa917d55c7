"""Cache keys: canonical JSON of the whole recipe, SHA-256."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Recipe = Mapping[str, Any]


def canonical(recipe: Recipe) -> str:
    """Return JSON with sorted keys and no spaces; NaN, infinities and non-JSON values are refused."""
    return json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def key_of(recipe: Recipe) -> str:
    """Return the key of a recipe: 64 hexadecimal digits."""
    return hashlib.sha256(canonical(recipe).encode()).hexdigest()
