from __future__ import annotations

from tests import prose


def test_the_numbers_of_the_readme_are_those_of_the_records() -> None:
    found = prose.BLOCK.search(prose.README.read_text(encoding="utf-8"))
    assert found is not None and found[0] == found[1] + prose.block() + found[2]
