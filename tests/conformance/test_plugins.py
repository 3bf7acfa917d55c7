"""Every registered plugin describes itself, and the tasks that are made here load; see ``test_attacks.py``."""

from __future__ import annotations

import pytest

from bench.conformance import REGISTRIES, checks

PLUGINS = [(kind, name) for kind, plugins in REGISTRIES.items() for name in plugins.names()]


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_metadata(kind: str, name: str) -> None:
    checks.describes_itself(REGISTRIES[kind].get(name))


@pytest.mark.parametrize("name", ["reviews", "questions", "chores"])
def test_generated_tasks(name: str) -> None:
    checks.loads(name)
