"""Models that write, for the tests of defenses: see ``writers.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.defenses import writers
from tests.defenses.writers import Writer


@pytest.fixture(scope="module")
def bad(world: Path) -> Writer:
    return writers.make(world)


@pytest.fixture(scope="module")
def good(world: Path) -> Writer:
    return writers.make(world, poison=False)
