"""How a number came about, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.contracts import Kind
from bench.errors import RequestError, unknown
from bench.experiment.metrics import MEASURED
from bench.report.rows.frames import References
from bench.report.rows.row import Row, first_line
from bench.report.tables import cells as tables
from bench.store.words import counted
from bench.suites.specs import split_top
from bench.suites.suite import Gate

FORM = "TASK:ATTACK:DEFENSE[:SEED] or the first 6 or more digits of a cell's key"
_KEY = re.compile(r"[0-9a-f]{6,64}")


def explain(rows: Iterable[Row], selector: str, *, gate: Gate | None = None) -> str:
    """Return what is known of the chosen cells: one of a table's numbers, seed by seed.

    Args:
        rows: every cell of a suite, floors and ceilings included.
        selector: ``TASK:ATTACK:DEFENSE``, with ``:SEED`` for one seed, or the first digits of a cell's key. The
            undefended victim is the defense ``none``, the floor ``clean model``.
        gate: when an attack counts as implanted.

    Raises:
        RequestError: nothing, or more than one cell by key, is chosen.
    """
    rows = list(rows)
    chosen = select(rows, selector)
    references = References.of(rows)
    first = chosen[0]
    head = f"{first.defense} against {first.attack} on {first.task} ({first.model}), suite {first.suite}"
    parts = [head, *_together(chosen)]
    for row in chosen:
        parts += ["", *_single(row, references, gate or Gate())]
    known = [one for one in MEASURED.values() if any(row.metric(one.name) is not None for row in chosen)]
    kind = first.kind
    return "\n".join([*parts, "", *(f"{one.title}: {one.of(kind).meaning}." for one in known)]).rstrip() + "\n"


def select(rows: Sequence[Row], selector: str) -> list[Row]:
    """Return the cells that a selector means, by seed."""
    if _KEY.fullmatch(selector):
        chosen = [row for row in rows if row.cell_key.startswith(selector)]
        if len(chosen) > 1:
            raise RequestError(f"{len(chosen)} cells have keys that start with {selector!r}; give more digits.")
        if not chosen:
            raise RequestError(f"no cell of this suite has a key that starts with {selector!r}; write {FORM}.")
        return chosen
    parts = split_top(selector, ":")
    if not 3 <= len(parts) <= 4:
        raise RequestError(f"cannot read {selector!r}; write {FORM}.")
    chosen = list(rows)
    for field, value in zip(("task", "attack", "defense", "seed"), parts, strict=False):
        valid = dict.fromkeys(str(getattr(row, field)) for row in chosen)
        if value not in valid:
            raise unknown(field, value, valid)
        chosen = [row for row in chosen if str(getattr(row, field)) == value]
    return sorted(chosen, key=lambda row: (row.model, row.clean_size, row.seed))


def _together(chosen: Sequence[Row]) -> list[str]:
    done = [row for row in chosen if row.done]
    if len(chosen) < 2 or not done or len({(row.model, row.clean_size, row.target) for row in chosen}) > 1:
        return []
    parts = []
    for metric in MEASURED.values():
        (number,) = tables.numbers(done, [metric])
        if number:
            parts.append(f"{metric.title} {number.text()}")
    return [f"Over {len(done)} of {len(chosen)} seeds (mean ± standard deviation): {', '.join(parts)}."]


def _single(row: Row, references: References, gate: Gate) -> list[str]:
    lines = [f"Seed {row.seed}, cell {row.cell_key[:12]}: {row.status}."]
    if row.status in ("failed", "n/a"):
        lines.append(f"  Reason: {first_line(row.error, 400)}")
    if row.status == "waiting":
        lines.append("  There is no record yet; `doorbench run` makes it.")
    weights = f", weights {row.victim_weights[:12]}" if row.victim_weights else ""
    lines.append(f"  Victim {row.victim_key[:12]}{weights}: {row.attack} with {_fields(row.attack_parameters)}.")
    lines += _references(row, references, gate)
    if row.record is None:
        return lines
    if row.done:
        lines += _numbers(row)
    lines += _choice(row.notes)
    return lines + _origin(row)


def _references(row: Row, references: References, gate: Gate) -> list[str]:
    known = references.joined(row)
    if known["victim_acc"] is None:
        return ["  The undefended victim is not finished."]
    sentence = f"  Undefended: {_beside(known, 'victim')}"
    if known["clean_acc"] is not None:
        sentence += f"; the clean model on the same test sets: {_beside(known, 'clean')}"
    passed = references.implanted(row, gate)
    false = f", FTR at most {gate.max_ftr:g}" if row.kind == Kind.GENERATION else ""
    rule = f"ASR at least {gate.min_asr:g}{false}, at most {gate.max_acc_drop:g} points of ACC lost"
    verdict = {None: "", True: f" The attack implanted ({rule}).", False: f" The attack did NOT implant ({rule})."}
    return [f"{sentence}.{verdict[passed]}"]


def _beside(known: Mapping[str, float | None], who: str) -> str:
    """Return the metrics of the victim or of the clean model in words."""
    values = ((metric.title, known.get(f"{who}_{metric.name}")) for metric in MEASURED.values())
    return ", ".join(f"{title} {value:.2f}" for title, value in values if value is not None)


def _numbers(row: Row) -> list[str]:
    if row.role == "detected":
        score = row.notes["suspicion"]
        return [f"  Suspicion {score:.4g}; only its order among models of this task and architecture counts."]
    lines = []
    for name, outcomes in row.outcomes.items():
        if outcomes is not None and (value := row.metric(name)) is not None:
            hits, count = int(np.nansum(outcomes)), int(np.count_nonzero(~np.isnan(outcomes)))
            share = f"= {hits} of" if MEASURED[name].unit == "%" else "over"
            lines.append(f"  {MEASURED[name].title} {value:.2f} {share} {counted(count, 'example')}.")
    return lines


def _choice(notes: Mapping[str, Any]) -> list[str]:
    lines = []
    if (ratio := notes.get("reserve_ratio")) is not None:
        lines.append(f"  Reserve ratio {ratio:g}" + ("." if notes.get("tried") else ", fixed by the suite."))
    tried = notes.get("tried") or []
    if tried and all(one.get("drop") is not None and one.get("fitted_drop") is not None for one in tried):
        candidates = ", ".join(f"{one['value']:g}: {one['drop']:.1f} ({one['fitted_drop']:.1f})" for one in tried)
        against = f" against the {notes.get('selection_reference', 'victim')}"
        lines.append(f"  Tried, with the points of ACC lost on the labels{against}, and the fitted ones: {candidates}.")
    if (tolerance := notes.get("selection_tolerance")) is not None:
        within = f"a fitted loss of at most {tolerance:g}"
        passed = f"the smallest with {within}" if notes.get("selection_passed") else f"NONE has {within}: the largest"
        lines.append(f"  Chosen: {passed}.")
    return lines


def _origin(row: Row) -> list[str]:
    assert row.record is not None
    seconds, where = row.record.seconds, row.environment
    lines = []
    if row.clean_size:
        lines.append(f"  Labels that the defense saw: {row.clean_size}.")
    if row.needs:
        lines.append(f"  The defense touched: {', '.join(row.needs)}.")
    if row.defense_parameters:
        lines.append(f"  Its parameters: {_fields(row.defense_parameters)}.")
    if seconds:
        times = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if value is not None)
        lines.append(f"  Seconds: {times}.")
    lines.append(f"  Made by DoorBench {where.get('version')} on {where.get('device')} ({where.get('precision')}).")
    return [*lines, *([f"  Record: {row.path}"] if row.path else [])]


def _fields(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items()) or "no parameters"
