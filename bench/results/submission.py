"""``doorbench submit --check``: whether the records of others can be merged.

A record is taken at its word for nothing that can be computed again: its key follows from its recipe, its metrics from
its predictions, and what it says in words from the recipe.
"""

from __future__ import annotations

import os
import reprlib
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import RequestError
from bench.experiment import code_versions, metrics, predictions, recipes, written
from bench.experiment.record import PluginRecipe, Record
from bench.experiment.record_files import Problem, RecordFile, files_below, read
from bench.plugins import registry
from bench.report.rows.records import LINES
from bench.results import publish
from bench.results.against_suite import Against
from bench.suites import suite as suites
from bench.suites.suite import Suite

STATED = ("version", "device", "python", *recipes.LIBRARIES)
FORMS = ("*.json", "*.jsonl", "*.jsonl.gz")
NO_RECORDS = (publish.LEADERBOARD, publish.CLAIMS, publish.EXAMPLES)  # JSON that lies beside published records
EXACT = 1e-9  # percent; metrics are shares of whole numbers


@dataclass
class Checked:
    """The outcome of a check.

    Attributes:
        records: how many were read.
        problems: what is wrong with them.
        notes: what is worth knowing, and what could not be checked.
        missing: in words, which cells of the suite have no record; empty where all have one or no suite is known.
    """

    records: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: str = ""

    @property
    def outdated(self) -> set[str]:
        """Keys of the records that only have to be run again."""
        return {problem.key for problem in self.problems if problem.outdated}

    @property
    def wrong(self) -> list[Problem]:
        """Problems that running again does not explain."""
        return [problem for problem in self.problems if not problem.outdated]


def check(folder: Path, suite: Suite | None = None) -> Checked:
    """Check every record in a folder.

    Args:
        folder: a store, its ``records`` folder, or any folder with records as .json or .jsonl.
        suite: whose cells the records should be; by default that of a ``suite.yaml`` beside them.

    Raises:
        RequestError: the folder is not there or holds no records.
    """
    if not folder.is_dir():
        raise RequestError(f"there is no folder {folder}.")
    checked, others = Checked(), set[str]()
    against = Against(suite or suite_of(folder))
    checked.problems += _no_plain_files(folder)
    for entry in read(_files(folder), below=folder if _beside(folder) else _place(folder)):
        if isinstance(entry, Problem):
            checked.problems.append(entry)
            checked.records += bool(entry.key)
            continue
        checked.records += 1
        name, record = entry.file, entry.record
        wrong = [Problem(name, record.key, *fault) for fault in _wrong(record)]
        wrong = wrong or [Problem(name, record.key, *fault, outdated=True) for fault in _versions(record)]
        checked.problems += wrong or against.problems(entry)
        others |= set(_other_versions(record))
    if not checked.records and not checked.problems:
        raise RequestError(f"{_place(folder)} holds no records (.json, .jsonl or .jsonl.gz).")
    checked.problems += against.strangers()
    checked.missing = against.missing()
    checked.notes += sorted(others | against.notes)
    return checked


def records(folder: Path, *, without: Collection[str] = ()) -> Iterator[Record]:
    """Yield the records of a folder that was checked, without those of the given keys."""
    entries = read(_files(folder))
    yield from (one.record for one in entries if isinstance(one, RecordFile) and one.record.key not in without)


def _place(folder: Path) -> Path:
    return folder / "records" if (folder / "records").is_dir() else folder


def suite_of(folder: Path) -> Suite | None:
    """Return the suite of ``suite.yaml`` in a folder of records, if there is one."""
    path = folder / "suite.yaml"
    return suites.check(suites.read_yaml(path), str(path)) if path.is_file() and not path.is_symlink() else None


def _files(folder: Path) -> list[Path]:
    files = [*_beside(folder), *files_below(_place(folder), FORMS)]
    return [path for path in files if path.name not in NO_RECORDS and _kind(path) == "file"]


def _beside(folder: Path) -> list[Path]:
    """Return what lies beside ``records`` and is read by tables as well, links among it."""
    return [path for name in LINES if _place(folder) != folder and os.path.lexists(path := folder / name)]


def _no_plain_files(folder: Path) -> Iterator[Problem]:
    """Yield what has no place among records: links, pipes, devices, folders that cannot be read."""
    place, unread = _place(folder), list[OSError]()
    for path in _beside(folder):
        if (kind := _kind(path)) != "file":
            yield _no_record(folder, path, f"is {kind}; records lie in plain files")
    for inside, folders, names in os.walk(place, onerror=unread.append):
        for path in (Path(inside, name) for name in sorted([*folders, *names])):
            if (kind := _kind(path)) not in ("file", "folder"):
                yield _no_record(place, path, f"is {kind}; records lie in plain files")
            elif kind == "folder" and not os.access(path, os.X_OK):
                folders.remove(path.name)
                yield _no_record(place, path, "cannot be read")
    yield from (_no_record(place, Path(error.filename), f"cannot be read: {error.strerror}") for error in unread)


def _no_record(place: Path, path: Path, what: str) -> Problem:
    return Problem(str(path.relative_to(place)), "", "file", what)


def _kind(path: Path) -> str:
    """Return what a path is, without following a link."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "a link"
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "a pipe or a device"


def _wrong(record: Record) -> Iterator[tuple[str, str]]:
    """Yield field and reason of everything that is wrong in a record."""
    yield from _stated(record)
    yield from _words(record)
    if record.predictions is not None:
        yield from _metrics(record)


def _stated(record: Record) -> Iterator[tuple[str, str]]:
    for name in STATED:
        if not record.environment.get(name):
            yield f"environment.{name}", "is missing"


def _versions(record: Record) -> Iterator[tuple[str, str]]:
    """Yield the areas of code and the plugins of another version, for a record that is right in all else."""
    for place, stored, current in (
        ("recipe.victim.rooms", record.recipe.victim.rooms, code_versions.of_victims()),
        ("recipe.rooms", record.recipe.rooms, code_versions.of_cells()),
    ):
        for area in sorted({*stored, *current}):
            if (old := stored.get(area, 1)) != (new := current.get(area, 1)):
                yield f"{place}.{area}", f"is version {old}; this version has {new}: run it again"
    for kind, plugin in _plugins(record):
        entry = registry.by_kind[kind].entries.get(plugin.name)
        if entry is not None and entry.origin == registry.BUILT_IN and entry.plugin.version != plugin.version:
            fault = f"is version {plugin.version}; this version has {entry.plugin.version}: run it again"
            yield f"recipe.{kind} {plugin.name}", fault


def _plugins(record: Record) -> Iterator[tuple[str, PluginRecipe]]:
    victim, defense = record.recipe.victim, record.recipe.defense
    yield "task", victim.task
    *modifiers, last = victim.attack.plugins
    yield from (("modifier", part) for part in modifiers)
    yield "attack", last
    yield from (("defense", part) for part in (defense.plugins if defense else ()))
    yield from (("measure", part) for part in record.recipe.measures)


def _other_versions(record: Record) -> Iterator[str]:
    """Yield what is worth knowing but no fault: other library versions, plugins that are not installed here."""
    for name, version in record.recipe.victim.libraries.items():
        if version != recipes.libraries().get(name):
            yield f"made with {name} {version}; here is {recipes.libraries().get(name)}"
    for kind, plugin in _plugins(record):
        entry = registry.by_kind[kind].entries.get(plugin.name)
        if entry is None:
            yield f"{kind} {plugin.name} is not installed here: its version cannot be checked"
        elif entry.origin != registry.BUILT_IN:
            yield f"{kind} {plugin.name} is external, from {entry.origin}"


def _words(record: Record) -> Iterator[tuple[str, str]]:
    """What a record says of its cell in words must be what its recipe says."""
    recipe, cell = record.recipe, record.cell
    victim, defense = recipe.victim, recipe.defense
    labels = recipe.clean_size if recipe.labels is None else recipe.labels
    expected: dict[str, tuple[object, object]] = {
        "role": (record.role, recipe.role),
        "cell.attack": (_bare(cell.attack), victim.attack.name),
        "cell.model": (cell.model, victim.model.name),
        "cell.seed": (cell.seed, victim.seed),
        "cell.clean_size": (cell.clean_size, labels),
        "cell.task": (cell.task.partition("/")[0], victim.task.name),
    }
    if victim.target is not None:
        expected["cell.target"] = _targets(cell.target, victim.target)
    if defense is not None:
        expected["cell.defense"] = (_bare(cell.defense), "+".join(part.name for part in defense.plugins))
    for name, (stated, in_recipe) in expected.items():
        if stated != in_recipe and not (name == "cell.model" and _is_path_of(str(stated), str(in_recipe))):
            yield name, f"is {reprlib.repr(stated)}, but the recipe says {reprlib.repr(in_recipe)}"


def _is_path_of(stated: str, model: str) -> bool:
    """Whether the path of a local model, as older records have it, may lead to it; a link has any name."""
    a_path = stated.startswith((".", "/", "~", "local/"))
    return model.startswith("local/") and (a_path or Path(stated).name == Path(model).name)


def _targets(stated: int | str, recipe: int | PluginRecipe) -> tuple[int | str, int | str]:
    """Return a target as words and recipe have it: the number of a label, or the name of a payload."""
    if isinstance(recipe, int):
        return stated, recipe
    return _bare(str(stated)), recipe.name


def _bare(spec: str) -> str:
    """Return the names in a spec, without fields."""
    from bench.suites.specs import split_top

    return "+".join(part.partition("(")[0] for part in split_top(spec, "+"))


def _metrics(record: Record) -> Iterator[tuple[str, str]]:
    """Compute the metrics again and compare."""
    assert record.predictions is not None and record.metrics is not None
    stored, stated = record.predictions.document(), record.metrics
    if record.cell.kind is not None:
        yield from _written_metrics(record, stored)
        return
    assert isinstance(record.cell.target, int)
    try:
        clean = predictions.decode(stored["clean"])
        triggered = predictions.decode(stored["triggered"]) if stored["triggered"] else None
        judged = predictions.judged(stored, target=record.cell.target, rejects=metrics.rejects(stated))
        measured = metrics.measure(judged)
    except (ValueError, IndexError) as error:
        yield "predictions", f"cannot be read: {error}"
        return
    for name, part in (("clean", clean), ("triggered", triggered)):
        if part is None:
            continue
        classes = part.probabilities.shape[1]
        if not np.isfinite(part.probabilities).all():
            yield f"predictions.{name}.probabilities", "are not all finite"
        for column, labels in (("gold", part.gold), ("label", part.labels)):
            if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
                yield f"predictions.{name}.{column}", f"has labels outside 0 to {classes - 1}"
    if triggered is not None:
        target = record.cell.target if triggered.targets is None else triggered.targets
        if (triggered.gold == target).any():
            yield "predictions.triggered.gold", "has examples whose gold label is the target; they do not count for ASR"
            return
    yield from _compared(stated, measured)


def _written_metrics(record: Record, stored: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Do so for a model that writes; its responses are judged as they stand, since their task is not here."""
    assert record.metrics is not None
    try:
        judged = written.judged(stored, rejects=metrics.rejects(record.metrics))
        measured = metrics.measure(judged)
    except (ValueError, IndexError) as error:
        yield "predictions", f"cannot be read: {error}"
        return
    for name, part in (("clean", judged.clean), ("triggered", judged.triggered)):
        if part is not None and not ((part.right >= 0) & (part.right <= 1)).all():
            yield f"predictions.{name}.right", "has utilities outside 0 to 1"
    yield from _compared(record.metrics, measured)


def _compared(stated: Mapping[str, float | None], measured: Mapping[str, float | None]) -> Iterator[tuple[str, str]]:
    """Compare metrics with those that the predictions give."""
    for name, value in measured.items():
        if name not in stated and not metrics.MEASURED[name].core:
            continue  # the record is older than the metric
        if not _equal(stated.get(name), value):
            yield f"metrics.{name}", f"is {stated.get(name)}, but the predictions give {value}"
    for name in metrics.MEASURED.keys() - measured.keys():
        if stated.get(name) is not None:
            yield f"metrics.{name}", f"is {stated[name]}, but the predictions give none"


def _equal(stated: float | None, value: float | None) -> bool:
    if stated is None or value is None:
        return stated is None and value is None
    return abs(stated - value) <= EXACT
