"""Tasks that go by one name and are not the same: of another size, or with victims that were trained otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.report.rows.row import Row

WORDS = {"max_train": "{} to train on", "max_test": "{} to test on", "max_length": "{} tokens"}


def disambiguate_tasks(rows: Sequence[Row]) -> list[Row]:
    """Return the rows; where a task's name stands for several settings, each is named with what sets it apart."""
    each = {(row.task, id(row.conditions)): row.conditions for row in rows}  # rows of a victim share theirs
    settings: dict[str, list[Mapping[str, Any]]] = {}
    for (task, _), conditions in each.items():
        known = settings.setdefault(task, [])
        if conditions not in known:
            known.append(conditions)
    fields = {task: _telling(variants) for task, variants in settings.items() if len(variants) > 1}
    names = {
        (task, which): f"{task} [{_words(conditions, fields[task])}]"
        for (task, which), conditions in each.items()
        if task in fields
    }
    return [row.renamed(task=names.get((row.task, id(row.conditions)), row.task)) for row in rows]


def _telling(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the first field that tells all settings apart, or every field in which some differ."""
    names = dict.fromkeys(name for setting in settings for name in setting)
    values = {name: {repr(setting.get(name)) for setting in settings} for name in names}
    alone = [name for name in names if len(values[name]) == len(settings)]
    return alone[:1] or [name for name in names if len(values[name]) > 1]


def _words(setting: Mapping[str, Any], fields: Sequence[str]) -> str:
    phrases = []
    for name in fields:
        value = setting.get(name)
        words = f"{value:,}" if isinstance(value, int) else "all" if value is None else str(value)
        phrases.append(WORDS.get(name, f"{name} {{}}").format(words))
    return ", ".join(phrases)
