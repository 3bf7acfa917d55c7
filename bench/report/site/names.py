"""File names from names: safe on every file system, readable, and never the same for two names."""

from __future__ import annotations

import hashlib
import re
from functools import cache

LONGEST = 60
_PLAIN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_RESERVED = {"con", "prn", "aux", "nul", "index", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}


@cache
def slug(name: str) -> str:
    """Return a file name without its ending; whatever had to be changed is told apart by a part of the name's hash."""
    if _PLAIN.fullmatch(name) and len(name) <= LONGEST and name not in _RESERVED:
        return name
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST].strip("-")
    tail = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{words}-{tail}" if words else tail
