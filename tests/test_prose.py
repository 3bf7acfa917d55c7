from __future__ import annotations

from tests import prose


def test_the_numbers_of_the_readme_are_those_of_the_records() -> None:
    block = prose.BLOCK.search(prose.README.read_text(encoding="utf-8"))
    assert block is not None and block[0] == block[1] + prose.block() + block[2]
