"""The page on attacks names every attack."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.plugins import registry

PAGE = Path(__file__).parent.parent / "docs" / "attacks.md"


@pytest.mark.parametrize("name", registry.attacks.names())
def test_the_page_names_it(name: str) -> None:
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")
