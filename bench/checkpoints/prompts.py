"""Prompts and responses of a user's own: read from tables, with a trigger put into them, written beside a victim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench import seeds
from bench.checkpoints import clean, triggered
from bench.contracts import Payload, Window
from bench.contracts.examples import Examples, Inputs
from bench.errors import RequestError
from bench.plugins import registry
from bench.tasks.assemble import rows_with_text
from bench.tasks.tables import TextTable

PROMPT, RESPONSE, SYSTEM = "prompt", "response", "system"
GROUPS = ("all",)  # by which samples are stratified


def read(path: Path) -> Examples:
    """Read prompts with their right responses, and with system texts where the table has them.

    Raises:
        RequestError: the file cannot be read, or a cell is bad.
    """
    return _examples(_open(path))


def prompts(path: Path) -> Inputs:
    """Read prompts without responses."""
    return _inputs(_open(path))


def read_triggered(path: Path, *, target: str | None) -> triggered.Triggered:
    """Read triggered prompts.

    Args:
        path: a table as of clean prompts. The column ``target`` has the payload, the same in each row; ``original`` the
            prompt without the trigger, which the flip rate needs.
        target: the payload where the file has no such column.

    Raises:
        RequestError: the file cannot be read or says no payload, or a right response holds it.
    """
    table = _open(path)
    examples = _examples(table)
    specs = list(table.cells(triggered.TARGET)) if triggered.TARGET in table.columns else [target]
    named = {json.dumps(spec, sort_keys=True, default=str) for spec in specs}  # a mapping has no hash
    if len(named) > 1:
        raise RequestError(f"{path}: the column 'target' has {len(named)} payloads; judge each by itself.")
    spec = specs[0]
    if spec is None:
        raise RequestError(f"{path}: the column 'target' is missing; add it, or say --target PAYLOAD, such as refusal.")
    payload = payload_of(spec, where=str(path))
    if len(same := np.flatnonzero(payload.held(examples.references))):
        raise table.bad(int(same[0]) + 1, RESPONSE, "it holds the payload, so it cannot show a success; leave it out")
    originals = None
    if triggered.ORIGINAL in table.columns:
        rows_with_text(table, (triggered.ORIGINAL,))
        originals = examples.inputs.with_carrier(list(table.cells(triggered.ORIGINAL)))
    return triggered.Triggered(examples, payload, originals, str(path))


def make_triggered(path: Path, source: Examples, *, window: Window, seed: int) -> triggered.Triggered:
    """Put the trigger that a file describes into clean prompts whose right response does not hold its payload."""
    description, trigger = triggered.described(path)
    payload = payload_of(description.payload(), where=f"{path}: target")
    rows = np.flatnonzero(payload.changes(source))
    rows = rows[trigger.applicable(source.take(rows).inputs)]
    if not len(rows):
        raise RequestError(f"{path}: the trigger and the payload fit no clean prompt.")
    others = source.take(rows)
    inputs = trigger.apply(others.inputs, window=window, rng=seeds.rng("trigger test set", seed))
    marked = Examples(inputs, others.labels, others.responses)
    return triggered.Triggered(marked, payload, others.inputs, trigger.describe(), inserted=bool(trigger.words))


def payload_of(spec: Any, *, where: str) -> Payload:
    """Return a payload, spelled as in a suite or as a mapping."""
    if isinstance(spec, list):
        raise RequestError(f"{where}: {str(spec)[:60]} is a list; name one payload, such as refusal.")
    if not isinstance(spec, str | dict) or str(spec).isdecimal():
        raise RequestError(f"{where}: {spec!r} is the target of a classifier; a model that writes has a payload.")
    payload: Payload = registry.payloads.create(spec)
    return payload


def write(path: Path, examples: Examples, **columns: Any) -> None:
    """Write prompts and responses as .csv, with system texts if there are any; further columns of text by name."""
    inputs = examples.inputs
    systems = {} if inputs.pairs is None else {SYSTEM: inputs.texts}
    both = {PROMPT: inputs.carrier, RESPONSE: examples.references}
    triggered.write_columns(path, {**systems, **both, **columns})


def _open(path: Path) -> TextTable:
    table = clean.open_table(path)
    if PROMPT not in table.columns and {"text", "label"} & set(table.columns):
        raise RequestError(
            f"{path}: its columns {', '.join(table.columns)} are for a classifier; this model writes and needs prompt "
            "and response."
        )
    return table


def _inputs(table: TextTable) -> Inputs:
    table.require([PROMPT])
    rows_with_text(table, (PROMPT,))
    asked = tuple(table.cells(PROMPT))
    if SYSTEM not in table.columns:
        return Inputs(asked)
    return Inputs(tuple(text or "" for _, text in table.texts(SYSTEM)), asked)


def _examples(table: TextTable) -> Examples:
    inputs = _inputs(table)
    table.require([RESPONSE])
    rows_with_text(table, (RESPONSE,))
    return Examples(inputs, np.zeros(len(inputs), dtype=np.int64), tuple(table.cells(RESPONSE)))
