"""Help texts in which an option that takes no value shows none; typer would show ``<bool>``."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command whose flags are plain."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters."""
        return _plain(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands whose flags are plain."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters."""
        return _plain(super().get_params(ctx))


def _plain(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params
