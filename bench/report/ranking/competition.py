"""Who competes, and where. Both are keys of large tables, which is why they are tuples."""

from __future__ import annotations

from typing import NamedTuple


class Setting(NamedTuple):
    """Where defenses meet: one attack on one task and model."""

    model: str
    task: str
    attack: str
    target: int | str | None = None


class Competitor(NamedTuple):
    """Who competes: a defense with one clean-data size; 0 for those that read no clean data."""

    defense: str
    clean_size: int = 0
