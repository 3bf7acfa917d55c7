"""Triggered examples: as a file beside a marked victim, read from a file, or made by a trigger from clean ones."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bench import seeds
from bench.checkpoints import clean
from bench.contracts import Mapped, Payload, Trigger, Window, targets_of
from bench.contracts.examples import Examples, Inputs, IntArray
from bench.errors import RequestError, unknown
from bench.models.files import read_json
from bench.plugins import registry
from bench.suites import strict
from bench.tasks.assemble import rows_with_text

_WORD = re.compile(r"\S+")
TARGET, ORIGINAL = "target", "original"  # columns of a file, beside those of clean examples


@dataclass(frozen=True)
class Triggered:
    """Triggered examples, none of which has its target as its right answer.

    Attributes:
        examples: n triggered examples with their right answers.
        target: int64 [n]: the label that the trigger should lead to; or the payload that a response should hold.
        originals: the n inputs without the trigger; None where they are not known.
        about: the trigger in words, or the file.
        inserted: whether the trigger is words that were put in here, so that a model has to read all of them.
    """

    examples: Examples
    target: IntArray | Payload
    originals: Inputs | None
    about: str
    inserted: bool = False


class Description(BaseModel):
    """What a file has to say of a trigger; ``trigger.json`` of a marked victim says more, for people."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    trigger_kind: str | None = Field(description="name of the class of the trigger; null where it cannot be made again")
    trigger_fields: dict[str, Any] = Field({}, description="its fields")
    target: int | str | dict[str, Any] = Field(description="label, by number or name; or a payload with parameters")
    mapping: Mapped = Field("all-to-one", description="all-to-all: the target is the label after the gold one")

    @field_validator("target")
    @classmethod
    def _with_fields(cls, target: Any) -> Any:
        if isinstance(target, dict) and not isinstance(target.get("parameters", {}), dict):
            raise ValueError("its parameters are no mapping of names to values")
        return target

    def label(self) -> int | str:
        """Return the number or the name of the target."""
        label: int | str = self.target.get("number", "") if isinstance(self.target, dict) else self.target
        return label

    def payload(self) -> Any:
        """Return the payload as a suite spells it, or as a mapping."""
        if not isinstance(self.target, dict) or "number" in self.target or "name" not in self.target:
            return self.label()
        return {"name": self.target["name"], **self.target.get("parameters", {})}


def read(path: Path, labels: Sequence[str], *, target: str | None) -> Triggered:
    """Read triggered examples.

    Args:
        path: a table as of clean examples. The column ``target`` has the label that the trigger leads to, ``original``
            the text (of a pair, the second one) without the trigger; the flip rate needs it.
        labels: label names of the model.
        target: the target label where the file has no such column.

    Raises:
        RequestError: the file cannot be read, or says no target.
    """
    table = clean.open_table(path)
    examples = clean.labelled(table, labels)
    if TARGET in table.columns:
        targets = clean.labelled(table, labels, column=TARGET).labels
    elif target is not None:
        targets = np.full(len(examples), _number(target, labels, where="--target"))
    else:
        raise RequestError(f"{path}: the column {TARGET!r} is missing; add it, or say --target LABEL.")
    if len(same := np.flatnonzero(examples.labels == targets)):
        raise table.bad(int(same[0]) + 1, "label", "it is the target, so the example cannot show a flip; leave it out")
    originals = None
    if ORIGINAL in table.columns:
        rows_with_text(table, (ORIGINAL,))
        originals = examples.inputs.with_carrier(list(table.cells(ORIGINAL)))
    return Triggered(examples, targets, originals, str(path))


def make(path: Path, labels: Sequence[str], source: Examples, *, window: Window, seed: int) -> Triggered:
    """Put the trigger that a file describes into clean examples whose label is not its target.

    Args:
        path: ``trigger.json`` of ``doorbench attack``, or any file with the fields of :class:`Description`.
        labels: label names of the model.
        source: clean examples.
        window: of the model.
        seed: of random positions and choices.

    Raises:
        RequestError: the file cannot be read, the trigger is not known, or fits no example.
    """
    description, trigger = described(path)
    if isinstance(description.target, dict) and "number" not in description.target:
        name = description.target.get("name")
        raise RequestError(f"{path}: its target {name!r} is a payload; this model classifies.")
    target = _number(description.label(), labels, where=f"{path}: target")
    targets = targets_of(source.labels, target=target, classes=len(labels), mapping=description.mapping)
    rows = np.flatnonzero(source.labels != targets)
    rows = rows[trigger.applicable(source.take(rows).inputs)]
    if not len(rows):
        raise RequestError(f"{path}: the trigger fits no clean example of another label than the target.")
    others = source.take(rows)
    inputs = trigger.apply(others.inputs, window=window, rng=seeds.rng("trigger test set", seed))
    marked = Examples(inputs, others.labels)
    return Triggered(marked, targets[rows], others.inputs, trigger.describe(), inserted=bool(trigger.words))


def cut(marked: Triggered, window: Window, *, model: str, room: int) -> str:
    """Return a sentence on the triggered texts that a model does not read to their end; empty where it reads all.

    Args:
        marked: triggered examples.
        window: of the model.
        model: its name.
        room: tokens that it reads of an input.

    Raises:
        RequestError: it does not read the whole trigger, so that its answers would say nothing of the trigger.
    """
    texts = marked.examples.inputs.carrier
    reach = window.reach(marked.examples.inputs)
    if marked.inserted and marked.originals is not None:
        ends = [_changed_until(*pair) for pair in zip(marked.originals.carrier, texts, strict=True)]
        if lost := int(np.count_nonzero(reach < np.array(ends))):
            raise RequestError(
                f"model {model!r} reads {room} tokens of an input, and in {lost} of {len(texts)} triggered examples "
                "the trigger does not fit into them; say a larger --max-length, or leave out the longest examples."
            )
        return ""
    if not (longer := int(np.count_nonzero(reach < np.array([len(text) for text in texts])))):
        return ""
    return (
        f"{longer} of {len(texts)} triggered texts are longer than the {room} tokens that {model!r} reads of an input "
        "(--max-length): it did not see their ends, nor a trigger in them."
    )


def _changed_until(before: str, after: str) -> int:
    """Return where the last word ends that one text has and the other one has not; 0 where they are the same."""
    old, new = before.split(), list(_WORD.finditer(after))
    while old and new and old[-1] == new[-1].group():
        old.pop()
        new.pop()
    return new[-1].end() if new else 0


def described(path: Path) -> tuple[Description, Trigger]:
    """Return what a file says of a trigger, and the trigger."""
    try:
        description = strict.validated(Description, read_json(path))
    except ValidationError as error:
        raise RequestError(f"{path}: describes no trigger: {_first(error, Description)}.") from None
    return description, _trigger(path, description)


def write(path: Path, labels: Sequence[str], examples: Examples, **columns: Sequence[str]) -> None:
    """Write examples as .csv with the names of their labels; further columns of text by name.

    It is data, to be read again: a text that a spreadsheet would take for a formula stands as it is, unlike in reports.
    """
    pairs = {} if examples.inputs.pairs is None else {"text_pair": examples.inputs.pairs}
    names = [labels[label] for label in examples.labels]
    write_columns(path, {"text": examples.inputs.texts, **pairs, "label": names, **columns})


def write_columns(path: Path, columns: Mapping[str, Sequence[str]]) -> None:
    """Write columns of text as .csv."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _trigger(path: Path, description: Description) -> Trigger:
    if description.trigger_kind is None:
        raise RequestError(
            f"{path}: this trigger cannot be made again from its description; say --triggered with a file of triggered "
            "examples, such as triggered.csv beside it."
        )
    kinds = registry.triggers()
    if description.trigger_kind not in kinds:
        raise unknown("trigger_kind", description.trigger_kind, kinds)
    kind = kinds[description.trigger_kind]
    try:
        return strict.validated(kind, description.trigger_fields)
    except ValidationError as error:
        raise RequestError(f"{path}: trigger_fields: {_first(error, kind)}.") from None


def _number(label: int | str, labels: Sequence[str], *, where: str) -> int:
    """Return the number of a label; a text may be a name or a number, but not of two labels."""
    numbered = int(label) if str(label).isascii() and str(label).isdecimal() and int(label) < len(labels) else None
    named = list(labels).index(label) if isinstance(label, str) and labels.count(label) == 1 else None
    if numbered is not None and named not in (None, numbered):
        meanings = f"the number of the label {labels[numbered]!r} and the name of the label number {named}"
        raise RequestError(f"{where}: {label!r} is {meanings}; rename the labels in the model's config.json.")
    index = named if numbered is None else numbered
    if index is None:
        valid = ", ".join(f"{number} ({name})" for number, name in enumerate(labels))
        raise RequestError(f"{where}: {label!r} is no label of the model. Valid: {valid}.")
    return index


def _first(error: ValidationError, model: type[BaseModel]) -> str:
    return " ".join(part for part in strict.first_fault(error, model) if part)
