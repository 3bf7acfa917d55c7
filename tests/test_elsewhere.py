"""Records made under other versions of the libraries are shown when asked for, and never taken for one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import recipes
from bench.elsewhere import apart_from_libraries
from bench.session import Session


def opened(world: Path, tmp_path: Path, **options: bool) -> Session:
    fields = {
        "name": "small",
        "description": "one cell",
        "task": ["local/single"],
        "model": [str(world / "tiny-bert")],
        "attack": ["badword"],
        "defense": ["none"],
        "seed": [0],
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(fields))
    return Session.open(str(tmp_path / "small.yaml"), (), tmp_path / "store", **options)


def forget() -> None:
    for cached in (recipes.victim_recipe, recipes.victim_key):
        cached.cache_clear()


def put(session: Session, versions: dict[str, str], patch: pytest.MonkeyPatch) -> str:
    """Store a record of the first cell as a machine with these versions would; return its key."""
    cell = next(iter(session.plan.cells.values()))
    with patch.context() as changed:
        changed.setattr(recipes, "libraries", lambda: versions)
        forget()
        key, recipe, victim = recipes.cell_key(cell), recipes.cell_recipe(cell), recipes.victim_key(cell.victim)
    forget()
    record: dict[str, Any] = {"schema": 1, "key": key, "recipe": recipe, "victim_key": victim, "status": "n/a",
                              "error": "made elsewhere", "environment": versions, "cell": {}}  # fmt: skip
    session.store.put_record(key, record)
    return key


def test_other_versions_are_shown_on_request(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = put(opened(world, tmp_path), {"torch": "0.1"}, monkeypatch)
    plain, wide = opened(world, tmp_path), opened(world, tmp_path, any_libraries=True)
    first = next(iter(plain.plan.cells))
    assert theirs != first
    assert {row.status for row in plain.rows()} == {"waiting"}
    (shown,) = [row for row in wide.rows() if row.record is not None]
    assert (shown.cell_key, shown.victim_key) == (theirs, shown.record["victim_key"])  # type: ignore[index]
    ours = put(plain, recipes.libraries(), monkeypatch)
    assert ours == first
    assert [row.cell_key for row in wide.rows() if row.record is not None] == [ours]


def test_only_library_versions_are_set_aside() -> None:
    recipe = {"victim": {"seed": 1, "libraries": {"torch": "1"}}, "others": [{"libraries": {"torch": "1"}, "seed": 2}]}
    newer = {"victim": {"seed": 1, "libraries": {"torch": "2"}}, "others": [{"libraries": {}, "seed": 2}]}
    assert apart_from_libraries(recipe) == apart_from_libraries(newer)
    assert apart_from_libraries(recipe) != apart_from_libraries({**newer, "others": [{"libraries": {}, "seed": 3}]})
