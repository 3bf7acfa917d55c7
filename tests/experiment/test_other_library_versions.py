"""Records made under other versions of the libraries are shown when asked for, and never taken for one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.experiment import recipes
from bench.experiment.other_library_versions import apart_from_libraries
from bench.experiment.result_store import ResultStore
from bench.report.rows import records
from bench.session import Session


def opened(world: Path, tmp_path: Path, **options: bool) -> Session:
    fields = {
        "name": "small",
        "description": "two defenses",
        "task": ["local/single"],
        "model": [str(world / "tiny-bert")],
        "attack": ["badword"],
        "defense": ["none", "fine-tuning"],
        "seed": [0],
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(fields))
    ResultStore(tmp_path / "store")
    return Session.open(str(tmp_path / "small.yaml"), (), tmp_path / "store", **options)


def forget() -> None:
    for cached in (recipes.victim_recipe, recipes.victim_key):
        cached.cache_clear()


def put(session: Session, versions: dict[str, str], patch: pytest.MonkeyPatch, place: int = 0) -> str:
    """Store a record of a cell as a machine with these versions would; return its key."""
    cell = list(session.plan.cells.values())[place]
    with patch.context() as changed:
        changed.setattr(recipes, "libraries", lambda: versions)
        forget()
        key, recipe, victim = recipes.cell_key(cell), recipes.cell_recipe(cell), recipes.victim_key(cell.victim)
    forget()
    record: dict[str, Any] = {
        "schema": 1, "key": key, "kind": "cell", "role": cell.role, "status": "n/a", "error": "made elsewhere",
        "cell": recipes.cell_words(cell), "recipe": recipe, "victim_key": victim, "metrics": None,
        "predictions": None, "notes": {}, "seconds": {}, "environment": versions,
    }  # fmt: skip
    session.store.put_record(key, record)
    return key


def test_other_versions_are_shown_on_request(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = put(opened(world, tmp_path), {"torch": "0.1"}, monkeypatch)
    plain, wide = opened(world, tmp_path), opened(world, tmp_path, any_libraries=True)
    first = next(iter(plain.plan.cells))
    assert theirs != first
    assert {row.status for row in plain.rows()} == {"waiting"}
    (shown,) = [row for row in wide.rows() if row.record is not None]
    assert shown.record is not None and (shown.cell_key, shown.victim_key) == (theirs, shown.record.victim_key)
    ours = put(plain, recipes.libraries(), monkeypatch)
    assert ours == first
    assert [row.cell_key for row in wide.rows() if row.record is not None] == [ours]


def test_cells_of_a_victim_show_one_training(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = opened(world, tmp_path, any_libraries=True)
    victims = [recipes.victim_key(cell.victim) for cell in wide.plan.cells.values()]
    common = max(victims, key=victims.count)
    both = [place for place, victim in enumerate(victims) if victim == common][:2]

    def shown() -> list[str]:
        return [row.cell_key for row in wide.rows() if row.record is not None]

    theirs = [put(wide, {"torch": "0.1"}, monkeypatch, place) for place in both]
    ours = [put(wide, recipes.libraries(), monkeypatch, both[0])]
    assert shown() == theirs, "theirs is whole"
    put(wide, {"torch": "0.2"}, monkeypatch, both[1])
    assert shown() == theirs
    ours.append(put(wide, recipes.libraries(), monkeypatch, both[1]))
    assert shown() == ours, "one's own comes first where it is as whole"


def test_rows_of_a_victim_share_the_key_of_the_training_that_most_show(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = opened(world, tmp_path, any_libraries=True)
    victims = [recipes.victim_key(cell.victim) for cell in wide.plan.cells.values()]
    common = max(victims, key=victims.count)
    first, second, third = [place for place, victim in enumerate(victims) if victim == common][:3]
    for place in (first, second):
        theirs = put(wide, {"torch": "0.1"}, monkeypatch, place)
    rows = wide.rows()
    keys = {rows[place].victim_key for place in (first, second, third)}
    assert rows[second].cell_key == theirs
    stored = rows[second].record
    assert stored is not None and keys == {stored.victim_key}, "one that waits, too"
    assert common not in keys
    put(wide, recipes.libraries(), monkeypatch, third)
    assert {wide.rows()[place].victim_key for place in (first, second, third)} == keys, "a stray one, too"
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "records.jsonl").write_text("\n".join(json.dumps(record) for record in wide.store.records()))
    assert [row.victim_key for row in records.load(folder)] == [*keys] * 3, "read without the plan"


def test_only_library_versions_are_set_aside() -> None:
    recipe = {"victim": {"seed": 1, "libraries": {"torch": "1"}}, "others": [{"libraries": {"torch": "1"}, "seed": 2}]}
    newer = {"victim": {"seed": 1, "libraries": {"torch": "2"}}, "others": [{"libraries": {}, "seed": 2}]}
    assert apart_from_libraries(recipe) == apart_from_libraries(newer)
    assert apart_from_libraries(recipe) != apart_from_libraries({**newer, "others": [{"libraries": {}, "seed": 3}]})
