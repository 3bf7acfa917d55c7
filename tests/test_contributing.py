"""CONTRIBUTING.md: its map is the house as it stands, and every path that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_house import FLOORS, PACKAGES

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def path_of(room: str) -> str:
    """A room as CONTRIBUTING.md writes it: a folder ends in a slash."""
    path = room if room in PACKAGES else f"bench/{room}"
    return f"{path}/" if (ROOT / path).is_dir() else f"{path}.py"


def test_every_room_has_one_line_in_the_order_of_the_floors() -> None:
    lines = re.findall(r"^\| `([\w/.]+)` \| (.+) \|$", TEXT, re.MULTILINE)
    assert [path for path, _ in lines] == [path_of(room) for floor in FLOORS for room in floor]
    assert all(len(purpose) > 10 for _, purpose in lines)


def test_every_path_that_it_names_is_there() -> None:
    folders = "|".join((*PACKAGES, "docs", "tests", "results"))
    named = re.findall(rf"(?<=[`(])(?:{folders})/[\w/.-]*", TEXT)
    assert len(named) > 50
    assert not [path for path in named if not (ROOT / path).exists()]
