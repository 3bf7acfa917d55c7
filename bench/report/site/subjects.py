"""The pages of one defense, attack, task or model: what it is, and everything that was measured of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench.experiment.kept import AnyRecord
from bench.experiment.record import PackedPredictions, Record
from bench.experiment.roles import VICTIM
from bench.report.ranking.results import Competitor, Setting
from bench.report.rows.row import Row
from bench.report.site import plugins
from bench.report.site.names import slug
from bench.report.site.views import STATES, BoardView, Family, cell_view, record_token

_BRACKETS = (
    "how its victims are trained, where suites differ in that, or the suite whose cells stand apart from the others"
)
WANTED = {"task": "task", "attack": "attack_base", "model": "model"}  # what chooses the places of a page
COLUMNS = {"task": ("attack", "model"), "attack": ("task", "model"), "model": ("task", "attack")}  # of its victims


def defense_sections(views: Sequence[BoardView], name: str) -> list[dict[str, Any]]:
    """Return what each board knows of a defense."""
    return [section for view in views if (section := _defense_section(view, name))["lines"]]


def _defense_section(view: BoardView, name: str) -> dict[str, Any]:
    standings = {standing.line: standing for standing in view.standings}
    detections = {one.line: one for one in view.detections} if view.detects else {}
    lines = []
    for line in view.results.lines:
        if view.bases[line.defense] != name:
            continue
        one = detections.get(line)
        lines.append(
            {
                "line": line,
                "label": view.label(line),
                "standing": None if view.detects else standings.get(line),
                "detection": one,
                "judged": () if one is None else one.judged,
                "needs": view.needs(line),
                "parameters": view.parameters[line.defense],
                "cells": [] if view.detects else list(_cells_of(view, line)),
            }
        )
    return {"view": view, "lines": lines, "curves": any(name in str(point["curve"]) for point in view.curves)}


def _cells_of(view: BoardView, line: Competitor) -> Iterator[Mapping[str, Any]]:
    for place in view.results.places:
        if view.results.cells(place, line):
            cell = cell_view(view, place, line)
            yield {
                **{
                    name: getattr(cell, name)
                    for name in ("place", "status", "reason", "means", "rank", "mark", "seeds")
                },
                "deviations": cell.deviations,
                "victim": view.reference(place, "victim"),
                "floor": view.reference(place, "floor"),
                "grey": view.results.state(place) == "not implanted",
                "rows": [{"token": record_token(row), "known": row.record or row.failure} for row in cell.rows],
            }


def place_content(families: Sequence[Family], kind: str, name: str) -> dict[str, Any]:
    """Return what the boards know of an attack, a task or a model: its victims, and its part of every board."""
    wanted = {WANTED[kind]: name}
    sections, victims = [], dict[Setting, dict[str, Any]]()
    for family in families:
        parts = [(view, view.places(**wanted)) for view in family.views]
        for view, places in parts:
            for place in places:
                victims.setdefault(place, _victim(view, place, kind))
        budgets = [{"view": view, "places": places} for view, places in parts if places and not view.detects]
        if budgets:
            sections.append({"family": family, "budgets": budgets, "main": _main(family, budgets)})
    return {
        "kind": kind,
        "name": name,
        "columns": COLUMNS[kind],
        "sections": sections,
        "victims": list(victims.values()),
    }


def _main(family: Family, budgets: Sequence[Mapping[str, Any]]) -> BoardView:
    """Return the board to show first: the main one of the family, or the one with most cells here."""
    views: list[BoardView] = [budget["view"] for budget in budgets]
    if family.main in views:
        return family.main
    fullest = max(budgets, key=lambda budget: len(budget["view"].standings))
    return fullest["view"]  # type: ignore[no-any-return]


def _victim(view: BoardView, place: Setting, kind: str) -> dict[str, Any]:
    rows = view.results.references(place, VICTIM.role)
    state = view.results.state(place)
    pages = {
        "task": f"task/{slug(place.task)}.html",
        "attack": f"attack/{slug(view.attack_bases[place.attack])}.html",
        "model": f"model/{slug(place.model)}.html",
    }
    return {
        "place": place,
        "pages": pages,
        "state": STATES[state],
        "grey": state == "not implanted",
        "victim": view.reference(place, VICTIM.role),
        "floor": view.reference(place, "floor"),
        "seeds": sum(row.done for row in rows.values()),
        "tokens": "_".join(record_token(row) for row in rows.values() if row.record or row.failure),
    }


def task_facts(name: str, rows: Sequence[Row], described: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return what is known of a task: its size, labels, source and terms."""
    source, licence = plugins.data_of(name)
    records = _one_of_each_victim(row for row in rows if row.task == name)
    recipe = records[0].recipe.victim.task if records else None
    parameters = {} if recipe is None else recipe.parameters
    tests = [record.predictions.clean for record in records if record.predictions is not None]
    sizes = [
        ("Training examples", _size(parameters.get("max_train"))),
        ("Test examples", _listed({part.n for part in tests})),
        ("Labels", _listed({part.classes for part in tests if isinstance(part, PackedPredictions)})),
        ("Tokens kept of a text", str(parameters.get("max_length", ""))),
        ("Source", described.get("source", source)),
        ("Licence", described.get("licence", licence or "not known here")),
        ("Fingerprint of the data", "" if recipe is None else recipe.fingerprint),
        ("In brackets", _BRACKETS if " [" in name else ""),
    ]
    return [(title, value) for title, value in sizes if value]


def _size(most: object) -> str:
    return "" if most is None else f"{most:,} at most, stratified by label" if isinstance(most, int) else str(most)


def _listed(counts: Iterable[int]) -> str:
    return ", ".join(f"{count:,}" for count in sorted(counts))


def _one_of_each_victim(rows: Iterable[Row]) -> list[Record]:
    """Return a record of each victim, with its predictions where any has some: they share data and recipe.

    Each is read from its file, so that is done for a few instead of all.
    """
    first: dict[str, AnyRecord] = {}
    for row in rows:
        if row.record is not None and (row.victim_key not in first or not first[row.victim_key].predicted):
            first[row.victim_key] = row.record
    return [record.whole for record in first.values()]


def model_facts(name: str, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return what is known of a pre-trained model: the hashes of its files."""
    recipes = [record.recipe.victim.model for record in _one_of_each_victim(row for row in rows if row.model == name)]
    facts = []
    for title, field in (("Weights", "weights"), ("Configuration", "config"), ("Tokenizer", "tokenizer")):
        hashes = dict.fromkeys(value for one in recipes if (value := getattr(one, field)))
        facts.append((f"{title} (SHA-256)", ", ".join(hashes)))
    return [(title, value) for title, value in facts if value]
