"""Few steps in place of the defaults of the defenses that take most, where a test is not about their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.contracts import Defense
from defenses.dbs import Dbs
from defenses.fine_mixing import FineMixing
from defenses.rap import Rap

FEW: dict[type[Defense], int] = dict.fromkeys((Dbs, FineMixing, Rap), 20)


def install(steps: dict[type[Defense], int] = FEW) -> dict[type[Defense], int]:
    """Make these the default steps in this process from now on; return what they were."""
    before = {plugin: plugin.model_fields["steps"].default for plugin in steps}
    for plugin, number in steps.items():
        plugin.model_fields["steps"].default = number
        plugin.model_rebuild(force=True)
    return before


@contextmanager
def installed() -> Iterator[None]:
    """Few steps until the end of the block."""
    before = install()
    try:
        yield
    finally:
        install(before)
