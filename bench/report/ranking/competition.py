"""Who competes, and where."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """Where defenses meet: one attack on one task and model."""

    model: str
    task: str
    attack: str
    target: int | str | None = None


@dataclass(frozen=True)
class Competitor:
    """Who competes: a defense with one clean-data size; 0 for those that read no clean data."""

    defense: str
    clean_size: int = 0
