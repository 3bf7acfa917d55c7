"""Rows from records alone: what results/ holds, and what others submit, is read without data, models or a store.

A failed attempt does not say in words which cell it belongs to, so only a suite that is opened with its store shows it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.errors import RequestError
from bench.experiment.other_library_versions import apart_from_libraries
from bench.report.rows.row import Row
from bench.report.rows.settings import WORDS
from bench.report.rows.trainings import merge_victim_keys
from bench.suites.suite import Gate, check, read_yaml

LINES = ("records.jsonl", "records.jsonl.gz")
FOLDER = "records"


def folders_of(folder: Path) -> list[Path]:
    """Return the topmost folders at or below ``folder`` that hold the records of a suite.

    Raises:
        RequestError: there is none.
    """
    found = list(_within(folder))
    if not found:
        valid = " or ".join(("records/*.json", *LINES))
        raise RequestError(f"no records in {folder} or its folders; a suite's folder holds {valid}.")
    return found


def _within(folder: Path) -> Iterator[Path]:
    if _holds_records(folder):
        yield folder
        return
    for inner in sorted(one for one in folder.iterdir() if one.is_dir() and not one.is_symlink()):
        yield from _within(inner)


def _holds_records(folder: Path) -> bool:
    return any((folder / name).is_file() for name in LINES) or (folder / FOLDER).is_dir()


def gate_of(folder: Path) -> Gate:
    """Return the gate of ``suite.yaml`` in a folder of records, or the default gate."""
    path = folder / "suite.yaml"
    return check(read_yaml(path), str(path)).gate if path.is_file() else Gate()


def load(folder: Path) -> list[Row]:
    """Return a row for each record in a folder.

    Raises:
        RequestError: a file is no record.
    """
    found: dict[str, Row] = {}
    victims: dict[str, str] = {}  # key of a victim -> what names it apart from the versions of libraries
    for path, document in _documents(folder):
        try:
            row = row_of(document, suite=folder.name)
            if row.victim_key not in victims:
                victims[row.victim_key] = apart_from_libraries(document["recipe"]["victim"])
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise RequestError(f"{path}: not a record of DoorBench ({type(error).__name__}: {error}).") from None
        found[row.cell_key] = replace(row, path=path)
    return merge_victim_keys([(row, victims[row.victim_key]) for row in found.values()])


def _documents(folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for name in LINES:
        path = folder / name
        if not path.is_file():
            continue
        with (gzip.open if name.endswith(".gz") else open)(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                yield path, _parsed(line, f"{path}, line {number}")
    for path in sorted((folder / FOLDER).rglob("*.json")):
        yield path, _parsed(path.read_text(encoding="utf-8"), str(path))


def _parsed(text: str, where: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
        return dict(document.get("record", document))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise RequestError(f"{where}: not a JSON document of DoorBench.") from None


def row_of(document: Mapping[str, Any], *, suite: str) -> Row:
    """Return the row of a record."""
    cell, recipe = document["cell"], document["recipe"]
    attack, defense = recipe["victim"]["attack"], recipe.get("defense")
    return Row(
        suite=suite,
        task=str(cell["task"]),
        model=str(cell["model"]),
        attack=str(cell["attack"]),
        defense=str(cell["defense"]),
        seed=int(cell["seed"]),
        role=document["role"],
        victim_key=str(document["victim_key"]),
        cell_key=str(document["key"]),
        clean_size=int(cell["clean_size"] or 0),
        listed=document["role"] != "floor",
        target=None if recipe["victim"]["target"] is None else cell["target"],
        attack_base=str(attack["name"]),
        defense_base=str(defense["name"] if defense else cell["defense"]),
        attack_parameters=_attack_parameters(attack),
        defense_parameters=_parameters(defense),
        needs=_needs(cell, defense),
        conditions=conditions_of(recipe["victim"]["task"]["parameters"], recipe["victim"]["budget"]),
        record=document,
    )


def conditions_of(task: Mapping[str, Any], budget: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a task and the training of its victims depend on beside the task's name."""
    return {**{name: task.get(name) for name in WORDS}, **budget}


def _attack_parameters(attack: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an attack, and those of its modifiers under ``modifier.field``."""
    *modifiers, last = _parts(attack)
    return {**last["parameters"], **_named(modifiers)}


def _parts(plugin: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return [] if plugin is None else list(plugin.get("parts") or [plugin])


def _named(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields of several plugins under ``plugin.field``."""
    return {f"{part['name']}.{field}": value for part in parts for field, value in part["parameters"].items()}


def _parameters(defense: Mapping[str, Any] | None) -> dict[str, Any]:
    parts = _parts(defense)
    if len(parts) == 1:
        return dict(parts[0]["parameters"])
    return _named(parts)


def _needs(cell: Mapping[str, Any], defense: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return what the defense touches: as the record says, else as the installed plugins say."""
    if cell.get("needs") is not None:
        return tuple(cell["needs"])
    from bench.plugins import registry

    found = registry.defenses.found
    needs = [need for part in _parts(defense) if part["name"] in found for need in found[part["name"]].plugin.needs]
    return tuple(sorted({str(need) for need in needs}))
