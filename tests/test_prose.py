from __future__ import annotations

from tests import behaviour, prose


def test_the_numbers_of_the_readme_are_those_of_the_records() -> None:
    block = prose.BLOCK.search(prose.README.read_text(encoding="utf-8"))
    assert block is not None and block[0] == block[1] + prose.block() + block[2]


def test_what_is_said_of_each_method_is_beside_the_numbers_of_the_records() -> None:
    assert behaviour.WRITTEN.read_text(encoding="utf-8") == behaviour.text()
    assert behaviour.unsaid() == set()
