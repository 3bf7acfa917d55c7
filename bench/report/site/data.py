"""The data files: plain scripts that hand JSON to the page, since a page opened from disk may not fetch."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.contracts import needs_in_short, needs_in_words
from bench.experiment.metrics import ACCURACY, BACKDOOR, COST, MEASURED, METRICS, RANKING, Percentages, Show, shown
from bench.experiment.roles import BASELINES, DEFENDED
from bench.report.ranking.detection import ALL, suspicion_of
from bench.report.ranking.matched import LIMITS
from bench.report.ranking.results import Competitor, Setting
from bench.report.rows.row import Row
from bench.report.site.names import slug
from bench.report.site.views import BoardView, cell_view, record_token

FEW = 3000  # records; more are spread over 256 files instead of 16
Examples = Mapping[str, Sequence[Mapping[str, str]]]  # by key of a cell: what a model wrote, see Source
LONGEST = 4000  # characters of a note; longer ones are cut, the record file has them


def script(name: str, content: Any) -> str:
    """Return a script that hands over ``content``; no character of it can end a script element."""
    text = json.dumps(_plain(content), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return f"doorbench.receive({_inert(json.dumps(name))},{_inert(text)});\n"


def _inert(text: str) -> str:
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    """Return JSON values: numbers rounded to what can be read, None for NaN."""
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def board_file(view: BoardView) -> dict[str, Any]:
    """Return every line, place and cell of a board, and what is said of its metrics.

    Cells are short lists; ``fields`` names what stands in them.
    """
    lines = [standing.line for standing in view.standings]
    lines += [line for line in view.results.lines if line not in set(lines)]
    numbers = {line: i for i, line in enumerate(lines)}
    places = {place: i for i, place in enumerate(view.results.places)}
    known = [(place, line) for (place, line), _ in view.results.items() if line in numbers]
    known.sort(key=lambda one: (places[one[0]], numbers[one[1]]))
    cells = [{"line": numbers[line], "place": places[place], **_cell(view, place, line)} for place, line in known]
    return {
        "metrics": {
            "ranking": RANKING.name,
            "left": BACKDOOR.name,
            "accuracy": ACCURACY.name,
            "cost": COST.name,
            "board": [metric.descriptor() for metric in view.board_metrics],
            "cells": [metric.descriptor() for metric in view.cell_metrics],
            "matched": [_at(limit) for limit in LIMITS],
        },
        "baselines": {baseline.role: baseline.label for baseline in BASELINES},
        "lines": [_line(view, line) for line in lines],
        "places": [_place(view, place) for place in places],
        "fields": list(cells[0]) if cells else [],
        "cells": [list(cell.values()) for cell in cells],
        "curves": view.curves,
    }


def _at(limit: float) -> str:
    return f"matched_{limit:g}"


def _line(view: BoardView, line: Competitor) -> dict[str, Any]:
    rating = next((standing.rating for standing in view.standings if standing.line == line), None)
    return {
        "name": view.label(line),
        "page": slug(view.bases[line.defense]),
        "labels": line.clean_size,
        "ranked": line.defense not in view.results.oracles,
        "group": needs_in_short(view.needs(line)),
        "needs": list(view.needs(line)),
        "interval": None if rating is None else [rating.low, rating.high],
        "parameters": view.parameters[line.defense],
    }


def _place(view: BoardView, place: Setting) -> dict[str, Any]:
    return {
        "model": place.model,
        "task": place.task,
        "attack": view.place_attack(place),
        "state": view.results.state(place),
        "victim": _measured(view, view.reference(place, "victim")),
        "floor": _measured(view, view.reference(place, "floor")),
    }


def _measured(view: BoardView, means: Percentages) -> dict[str, float]:
    return {name: means[name] for name, metric in METRICS.items() if view.results.kind in metric.kinds}


def made_with(rows: Sequence[Row]) -> str:
    """Return the version that made the records, and the days on which they were made, where they say it."""
    made = [row.environment for row in rows if row.done]
    versions = sorted({one["version"] for one in made if one.get("version")})
    days = sorted({one["date"] for one in made if one.get("date")})
    parts = [", ".join(versions), " to ".join(dict.fromkeys((days[0], days[-1])))] if days else [", ".join(versions)]
    return " · ".join(filter(None, parts))


def detection_file(view: BoardView) -> dict[str, Any]:
    """Return the AUROC of every detector against every attack, with its interval, in percent."""
    attacks = list(dict.fromkeys(name for one in view.detections for name in one.areas if name != ALL))
    return {
        "attacks": attacks,
        "lines": [
            {
                "name": view.label(one.line),
                "page": slug(view.bases[one.line.defense]),
                "needs": list(one.needs),
                "areas": {
                    name: None if area is None else [100 * area.value, 100 * area.low, 100 * area.high]
                    for name, area in one.areas.items()
                },
            }
            for one in view.detections
        ],
    }


def _cell(view: BoardView, place: Setting, line: Competitor) -> dict[str, Any]:
    cell = cell_view(view, place, line)
    return {
        "status": cell.status if not cell.reason else f"{cell.status}: {cell.reason}",
        "seeds": cell.seeds,
        **{
            metric.name: cell.means[metric.name]
            for metric in shown(Show.SITE_BOARD | Show.SITE_CELLS, kind=view.results.kind)
            if not metric.measure or metric.name in view.results.known_metrics
        },
        **{f"{name}_sd": deviation for name, deviation in cell.deviations.items()},
        **{_at(limit): value for limit, value in cell.matched.items()},
        "times": view.leaderboard.time_ratios(place, line),
        "made": made_with(cell.rows),
        "rank": cell.rank,
        "mark": cell.mark,
        "records": " ".join(
            record_token(row) for row in cell.rows if row.record is not None or row.failure is not None
        ),
    }


def digits(rows: Sequence[Row]) -> int:
    """Return how many digits of a victim's key decide a record's file."""
    return 1 if len(rows) <= FEW else 2


def write_records(rows: Sequence[Row], folder: Path, examples: Examples) -> None:
    """Write what is known of every cell, those of one victim in one file; predictions stay in the record files."""
    count = digits(rows)
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.record is not None or row.failure is not None:
            groups[row.victim_key[:count]].append(row)
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, members in groups.items():
        victims = {row.victim_key[:12]: row for row in reversed(members)}  # the first of each: it is read from its file
        content = {
            "victims": {key: _victim(row) for key, row in victims.items()},
            "records": {record_token(row): _record(row, examples) for row in members},
        }
        (folder / f"{prefix}.js").write_text(script(f"records/{prefix}", content), encoding="ascii")


def _victim(row: Row) -> dict[str, Any]:
    recipe = {} if row.record is None else row.record.recipe.victim.document()
    return {
        "key": row.victim_key,
        "attack": row.attack,
        "parameters": row.attack_parameters,
        "task": row.task,
        "model": row.model,
        "seed": row.seed,
        "target": row.target,
        "recipe": {name: recipe[name] for name in ("task", "model", "budget") if name in recipe},
    }


def _record(row: Row, examples: Examples) -> dict[str, Any]:
    return {
        "role": row.role,
        "key": row.cell_key,
        "victim": row.victim_key[:12],
        "status": row.status,
        "error": row.error,
        "defense": row.defense,
        "base": row.defense_base or row.defense,
        "page": slug(row.defense_base or row.defense) if row.role in DEFENDED else None,
        "board": row.board.value if row.role in DEFENDED else None,
        "seed": row.seed,
        "parameters": row.defense_parameters,
        "needs": needs_in_words(row.needs),
        "labels": row.clean_size,
        "metrics": [
            [one.title, row.metric(one.name)]
            for one in MEASURED.values()
            if row.kind in one.kinds and (not one.measure or row.metric(one.name) is not None)
        ],
        "suspicion": suspicion_of(row),
        "seconds": {} if row.record is None else row.record.seconds,
        "notes": {name: _short(value) for name, value in row.notes.items()},
        "environment": row.environment,
        "examples": list(examples.get(row.cell_key, ())),
    }


def _short(value: Any) -> Any:
    text = json.dumps(_plain(value))
    return value if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text)} characters; the record has all)"
