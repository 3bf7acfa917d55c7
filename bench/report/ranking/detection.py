"""The detection board: how well a defense tells victims from clean models, as AUROC."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.report.ranking.results import Competitor, Results
from bench.report.ranking.statistics import Estimate, area_interval
from bench.report.rows.row import Row
from bench.report.tables import cells as tables
from bench.report.tables.layout import Cell, Column, Line, Number, Table

ALL = "all attacks"


@dataclass(frozen=True)
class Judged:
    """A model with the suspicion that a detector has of it.

    Attributes:
        suspicion: higher is more suspicious.
        poisoned: whether there is a backdoor in it.
        attack, task: of the victim.
        row: the cell.
    """

    suspicion: float
    poisoned: bool
    attack: str
    task: str
    row: Row


@dataclass(frozen=True)
class Detection:
    """A line of the detection board.

    Attributes:
        line: the detector and its clean-data size.
        areas: AUROC in [0, 1] against the clean models, for each attack and for all together.
        poisoned, clean: how many models were judged.
        needs: what it touches.
        judged: every model with its suspicion.
    """

    line: Competitor
    areas: dict[str, Estimate | None]
    poisoned: int
    clean: int
    needs: tuple[str, ...]
    judged: tuple[Judged, ...]


def suspicion_of(row: Row) -> float | None:
    """Return the suspicion that a record states in its notes; None where it states none."""
    value = row.notes.get("suspicion")
    return None if value is None else float(value)


def judged(results: Results) -> dict[Competitor, list[Judged]]:
    """Return the models that each detector has judged; attacks that did not implant are left out."""
    models: dict[Competitor, list[Judged]] = defaultdict(list)
    states = {place: results.state(place) for place in results.places}
    for (place, line), cells in results.items():
        if states[place] not in ("implanted", "no trigger"):
            continue
        for seed, row in cells.items():
            value = suspicion_of(row) if row.done and seed in results.used_seeds(place) else None
            if value is not None:
                models[line].append(Judged(value, states[place] == "implanted", place.attack, place.task, row))
    return models


def areas(models: Iterable[Judged]) -> dict[str, Estimate | None]:
    """Return the AUROC for all attacks together and for each, with its 95 % interval.

    Suspicions are compared only between models of one task and one pre-trained model; the areas of these groups are
    averaged. The interval is a bootstrap over models, victims and clean ones drawn apart.
    """
    models = list(models)
    attacks = dict.fromkeys(model.attack for model in models if model.poisoned)
    return {ALL: _area(models, None)} | {attack: _area(models, attack) for attack in attacks}


def _area(models: Sequence[Judged], attack: str | None) -> Estimate | None:
    groups: dict[tuple[str, str], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for model in models:
        if not model.poisoned or attack in (None, model.attack):
            groups[model.row.model, model.task][not model.poisoned].append(model.suspicion)
    return area_interval(list(groups.values()))


def detections(results: Results) -> list[Detection]:
    """Return the detectors that have judged any model, highest AUROC first."""
    detectors = []
    for line, models in judged(results).items():
        poisoned = sum(model.poisoned for model in models)
        needs = models[0].row.needs
        detectors.append(Detection(line, areas(models), poisoned, len(models) - poisoned, needs, tuple(models)))
    return sorted(detectors, key=_order)


def _order(detection: Detection) -> float:
    area = detection.areas[ALL]
    return math.inf if area is None else -area.value


def build(results: Results) -> Table:
    """Return the detection board as a table."""
    detectors = detections(results)
    attacks = list(dict.fromkeys(attack for one in detectors for attack in one.areas if attack != ALL))
    labels = tables.labels(results)
    columns = [Column((), (name,)) for name in (ALL, *attacks, "victims", "clean models")]
    lines = []
    for one in detectors:
        cells = [Cell((_number(one.areas.get(name)),)) for name in (ALL, *attacks)]
        lines.append(Line(labels[one.line], (*cells, Cell(words=str(one.poisoned)), Cell(words=str(one.clean)))))
    for line in results.lines:
        if line not in {one.line for one in detectors}:
            lines.append(Line(labels[line], tuple(Cell(words="…") for _ in columns)))
    footer = (
        "AUROC in percent: the chance that a victim is found more suspicious than a clean model; 50 is guessing. Only "
        "models of one task and one pre-trained model are compared. In brackets the 95 % interval over models. Attacks "
        "that did not implant are left out.",
        tables.footer(results)[0],
    )
    title = f"{tables.suite_of(results)}, model detection: victims told from clean models, AUROC"
    return Table(title, "defense", tuple(columns), tuple(lines), (), footer)


def _number(area: Estimate | None) -> Number | None:
    if area is None:
        return None
    return Number(100 * area.value, interval=(100 * area.low, 100 * area.high))
