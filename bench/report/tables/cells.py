"""Attacks x tasks x defenses: every number of a suite in one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.experiment.metrics import ACCURACY, RANKING, Metric
from bench.experiment.roles import BASELINES
from bench.report.ranking.results import LEAST_RATING, MARGIN, Competitor, Mark, Results, Setting, State
from bench.report.rows.frames import is_shown
from bench.report.rows.mixtures import different_environments, mixtures
from bench.report.rows.row import Row, first_line
from bench.report.tables.layout import DAGGER, EXTERNAL, Cell, Column, Footnotes, Line, Number, Table
from bench.store.words import counted


def build(results: Results, *, board: str = "") -> Table:
    """Return the metrics of every defense under every attack, floors and ceilings on top.

    Numbers are means with standard deviations over the seeds that count (see :meth:`Results.used_seeds`).
    """
    notes = Footnotes()
    columns = [column(results, place, notes) for place in results.places]
    marks = {place: results.marks(place) for place in results.places}
    lines = []
    for baseline in BASELINES:
        cells = [_cell(results, place, results.references(place, baseline.role), "", notes) for place in results.places]
        lines.append(Line(baseline.label, tuple(cells), reference=True))
    for line, label in labels(results).items():
        cells = [
            _cell(results, place, results.cells(place, line), marks[place].get(line, ""), notes)
            for place in results.places
        ]
        lines.append(Line(label, tuple(cells)))
    where = f", {board}" if board else ""
    what = ", ".join(
        f"{metric.stands_for} ({metric.title})" if metric.stands_for else metric.title
        for metric in results.shown_metrics
    )
    title = f"{suite_of(results)}{where}: {what}, percent"
    return Table(title, "defense", tuple(columns), tuple(lines), tuple(notes.texts), footer(results))


def leaves_of(results: Results, state: State) -> list[Metric]:
    """Return the metrics of a column; without a trigger there is only accuracy."""
    return [metric for metric in results.shown_metrics if state != "no trigger" or metric.name == ACCURACY.name]


def suite_of(results: Results) -> str:
    """Return the name of the suite."""
    return ", ".join(dict.fromkeys(row.suite for row in results.rows)) or "empty suite"


def labels(results: Results, *, marked: bool = True) -> dict[Competitor, str]:
    """Return how tables call each defense, with a size that varies.

    Args:
        results: whose lines they are.
        marked: whether signs say that a defense needs an oracle or is external; pages say it in words.
    """
    oracles = results.oracles
    sizes = {line.clean_size for line in results.lines if line.clean_size}
    by_line = {}
    for line in results.lines:
        size = f" [n={line.clean_size}]" if line.clean_size and len(sizes) > 1 else ""
        signs = DAGGER * (line.defense in oracles) + EXTERNAL * (line.defense in results.external)
        by_line[line] = line.defense + signs * marked + size
    return by_line


def headings(results: Results, place: Setting) -> tuple[str, ...]:
    """Return task and attack; model and target label only where they vary."""
    model = f" · {place.model}" if len(results.models) > 1 else ""
    target = f" → {place.target}" if place.target is not None and len(results.targets) > 1 else ""
    return place.task + model, place.attack + target


def column(results: Results, place: Setting, notes: Footnotes) -> Column:
    """Return the heading of a place, with a footnote where the attack did not implant."""
    state, seeds, used = results.state(place), results.seeds(place), results.used_seeds(place)
    remarks: tuple[int, ...] = ()
    if state == "not implanted":
        remarks = (notes.add("the attack did not implant: grey, and left out of marks and ranks"),)
    elif state == "implanted" and len(used) < len(seeds):
        left = ", ".join(str(seed) for seed in seeds if seed not in used)
        remarks = (notes.add(f"left out, as the attack did not implant or is not finished there: seed {left}"),)
    leaves = tuple(metric.title for metric in leaves_of(results, state))
    return Column(headings(results, place), leaves, grey=state == "not implanted", notes=remarks)


def _cell(results: Results, place: Setting, cells: Mapping[int, Row], mark: Mark, notes: Footnotes) -> Cell:
    state = results.state(place)
    rows = [cells[seed] for seed in results.used_seeds(place) if seed in cells]
    done = [row for row in rows if row.done]
    remarks = tuple(_remarks(rows, notes))
    grey = state == "not implanted"
    if done:
        return Cell(numbers(done, leaves_of(results, state)), mark=mark, grey=grey, notes=remarks)
    statuses = {row.status for row in rows}
    words = next((word for word in ("failed", "n/a") if word in statuses), "…" if rows else "")
    return Cell(words=words, grey=grey, notes=remarks)


def _remarks(rows: Sequence[Row], notes: Footnotes) -> list[int]:
    """Return footnotes on cells of a place: those without numbers, and those whose training had not converged."""
    remarks = []
    for status, words in (("failed", "failed"), ("n/a", "n/a")):
        hit = [row for row in rows if row.status == status]
        for reason in dict.fromkeys(first_line(row.error) for row in hit):
            some = "" if len(hit) == len(rows) else f" ({len(hit)} of {len(rows)} seeds)"
            remarks.append(notes.add(f"{words}{some}: {reason}"))
    waiting = sum(row.status == "waiting" for row in rows)
    if 0 < waiting < len(rows):
        remarks.append(notes.add(f"not run yet: {waiting} of {len(rows)} seeds"))
    if early := sum(row.unconverged for row in rows):
        words = "stopped at its limit of steps before its loss was low enough"
        remarks.append(notes.add(f"{words}: {early} of {counted(len(rows), 'seed')}"))
    return remarks


def numbers(rows: Sequence[Row], metrics: Sequence[Metric]) -> tuple[Number | None, ...]:
    """Return mean and standard deviation of each metric over cells; None where it is not defined."""
    table = np.array([[row.percentages[metric.name] for row in rows] for metric in metrics])
    known = ~np.isnan(table)
    if known.all():
        return _numbers(table, metrics)
    each = (_numbers(table[[i], known[i]][None], [metric]) for i, metric in enumerate(metrics))
    return tuple(number for one in each for number in one)


def _numbers(table: NDArray[np.float64], metrics: Sequence[Metric]) -> tuple[Number | None, ...]:
    """Return numbers of known values [metrics, cells]."""
    count = table.shape[1]
    if not count:
        return (None,) * len(metrics)
    spreads = table.std(axis=1, ddof=1).tolist() if count > 1 else [None] * len(metrics)
    rows = zip(table.mean(axis=1).tolist(), spreads, metrics, strict=True)
    return tuple(Number(mean, spread, digits=metric.decimals) for mean, spread, metric in rows)


def footer(results: Results) -> tuple[str, ...]:
    """Return what was run, how to read it, and how much of it is there."""
    sentences = [
        what_was_run(results),
        _reading(len(_seeds(results))),
        f"Marked best: the highest {RANKING.title}, of {LEAST_RATING:g} or more; as good: shown to be within "
        f"{MARGIN:g} points of it (sign-flip tests over trainings with the noise of test examples, Holm-corrected, "
        "5 %).",
        f"{RANKING.title}, {RANKING.stands_for}: {RANKING.meaning}.",
        f"An attack counts as implanted from {results.gate.rule(results.kind)} against a clean model that knows the "
        f"task (at least {results.gate.min_skill:g} % of the way from the most frequent class to 100).",
        _counts(results),
    ]
    if results.oracles:
        meaning = "is told the trigger and the target label, or was chosen on the test sets"
        sentences.insert(3, f"{DAGGER} {meaning}: shown, but neither marked nor ranked.")
    if results.external:
        packages = ", ".join(sorted(set(results.external.values())))
        sentences.append(f"{EXTERNAL} is external, from {packages}: its code does not ship with DoorBench.")
    if left := len(results.cells_of_other_trainings):
        sentences.append(
            f"Left out, as another training of their victim than theirs passed the gate: {counted(left, 'cell')}."
        )
    sentences += [f"MIXED: {one}." for one in mixtures(results.rows)]
    if results.swept:
        sentences.append(f"{results.swept} cells with a fixed reserve ratio are in the mixing-ratio figure, not here.")
    return tuple(sentences)


def what_was_run(results: Results) -> str:
    """Return the suite, its models, seeds and budgets in a sentence."""
    seeds = _seeds(results)
    return (
        f"Suite {suite_of(results)}; model {_listed(place.model for place in results.places)}; "
        f"seed{'s' if len(seeds) > 1 else ''} {_listed(seeds)}; labels of a defender {samples(results)}."
    )


def _seeds(results: Results) -> list[int]:
    return sorted({seed for place in results.places for seed in results.seeds(place)})


def samples(results: Results) -> str:
    """Return the budgets of labels."""
    return _listed(sorted({row.clean_size for row in results.rows if row.clean_size})) or "none"


def _reading(seeds: int) -> str:
    if seeds > 1:
        return "Mean ± standard deviation over seeds."
    return "One seed: no spread over seeds is known, and the marks speak of test examples only."


def _counts(results: Results) -> str:
    rows = [row for row in results.rows if is_shown(row)]
    counts = Counter(row.status for row in rows)
    statuses = ", ".join(
        f"{counts[status]} {status}" for status in ("done", "failed", "n/a", "waiting") if status in counts
    )
    shown_in, environments = different_environments(rows), different_environments(results.rows)
    made_with = {name: [value for where in shown_in if (value := where.get(name)) is not None]
             for name in ("version", "device")}  # fmt: skip
    made = [f"DoorBench {_listed(made_with['version'])}", f"device {_listed(made_with['device'])}"]
    for name, words in (("torch", "torch"), ("precision", "arithmetic")):
        values = sorted({str(where[name]) for where in environments if where.get(name)})
        made += [f"{words} {_listed(values)}"] if len(values) > 1 else []
    where = ", ".join(part for part in made if not part.endswith(" "))
    return f"{counted(len(rows), 'cell')}: {statuses or 'none'}." + (f" Made by {where}." if where else "")


def _listed(values: object) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(values))  # type: ignore[call-overload]
