"""``doorbench submit --check``: whether the records of others can be merged.

A record is taken at its word for nothing that can be computed again: its key follows from its recipe, its metrics from
its predictions, and what it says in words from the recipe.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import RequestError
from bench.experiment import code_versions, metrics, predictions, recipes
from bench.keys import key_of
from bench.plugins import registry
from bench.results import publish
from bench.store.documents import Damaged, Newer, unwrap

FIELDS = ("schema", "key", "kind", "role", "status", "cell", "recipe", "victim_key", "metrics", "predictions",
          "environment", "seconds", "notes")  # fmt: skip
STATED = ("version", "device", "python", *recipes.LIBRARIES)
FORMS = ("*.json", "*.jsonl", "*.jsonl.gz")
NO_RECORDS = (publish.LEADERBOARD, publish.CLAIMS)  # JSON that lies beside published records
EXACT = 1e-9  # percent; metrics are shares of whole numbers


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        file: where the record is.
        key: of the record, as its file says.
        field: what is wrong in it.
        what: in words.
        outdated: it was made by another version of a plugin or a room, and is wrong in nothing else here.
    """

    file: str
    key: str
    field: str
    what: str
    outdated: bool = False

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.file}: record {self.key[:12] or '?'}, field {self.field}: {self.what}"


@dataclass
class Checked:
    """The outcome of a check."""

    records: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def outdated(self) -> set[str]:
        """Keys of the records that only have to be run again."""
        return {problem.key for problem in self.problems if problem.outdated}

    @property
    def wrong(self) -> list[Problem]:
        """Problems that running again does not explain."""
        return [problem for problem in self.problems if not problem.outdated]


def check(folder: Path) -> Checked:
    """Check every record in a folder.

    Args:
        folder: a store, its ``records`` folder, or any folder with records as .json or .jsonl.

    Raises:
        RequestError: the folder is not there or holds no records.
    """
    if not folder.is_dir():
        raise RequestError(f"there is no folder {folder}.")
    place = _place(folder)
    found = Checked()
    seen: dict[str, tuple[str, str]] = {}
    golds: dict[str, tuple[str, str]] = {}
    others: set[str] = set()
    for name, record in _documents(place, found):
        found.records += 1
        key = str(record.get("key", ""))
        wrong = [Problem(name, key, *told) for told in _wrong(record)]
        found.problems += wrong or [Problem(name, key, *told, outdated=True) for told in _versions(record)]
        content = key_of(record)
        first, same = seen.setdefault(key, (name, content))
        if same != content:
            found.problems.append(Problem(name, key, "key", f"is in {first} too, with other content"))
        found.problems += _other_test_sets(name, record, golds)
        others |= set(_other_versions(record))
    if not found.records and not found.problems:
        raise RequestError(f"{place} holds no records (.json, .jsonl or .jsonl.gz).")
    found.notes += sorted(others)
    return found


def read(folder: Path, *, without: Collection[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield the records of a folder that was checked, without those of the given keys."""
    yield from (record for _, record in _documents(_place(folder), Checked()) if record["key"] not in without)


def _place(folder: Path) -> Path:
    return folder / "records" if (folder / "records").is_dir() else folder


def _documents(place: Path, found: Checked) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every record with the name of its file; what cannot be read is a problem."""
    others = {path for name in NO_RECORDS for path in place.rglob(name)}
    for path in sorted({path for form in FORMS for path in place.rglob(form)} - others):
        name = str(path.relative_to(place))
        try:
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        except (OSError, EOFError, zlib.error) as error:
            found.problems.append(Problem(name, "", "file", f"cannot be read: {error}"))
            continue
        if ".jsonl" in path.suffixes:
            for number, line in enumerate(raw.splitlines(), 1):
                if line.strip():
                    yield from _parsed(f"{name}:{number}", line, found)
        else:
            yield from _parsed(name, raw, found)


def _parsed(name: str, raw: bytes, found: Checked) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        document = json.loads(raw)
        if isinstance(document, dict) and set(document) == {"sha256", "record"}:
            document = unwrap(raw if raw.endswith(b"\n") else raw + b"\n", key=str(document["record"]["key"]))
    except (Damaged, Newer) as error:
        found.problems.append(Problem(name, "", "sha256", str(error)))
        return
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        found.problems.append(Problem(name, "", "file", f"is not a record: {error}"))
        return
    if not isinstance(document, dict) or "recipe" not in document:
        found.problems.append(Problem(name, "", "file", "is not a record: it has no recipe"))
        return
    yield name, document


def _wrong(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield field and reason of everything that is wrong in a record."""
    missing = [name for name in FIELDS if name not in record]
    if missing:
        yield missing[0], "is missing"
        return
    if record["schema"] != recipes.SCHEMA:
        yield "schema", f"is {record['schema']!r}; this version takes {recipes.SCHEMA}"
        return
    if record["kind"] != "cell" or record["status"] not in ("done", "n/a"):
        yield "status", f"is {record['status']!r} of kind {record['kind']!r}; only finished cells can be merged"
        return
    try:
        yield from _keys(record)
        yield from _stated(record)
        yield from _words(record)
        if record["status"] == "done" and record["role"] == "detected":
            if not np.isfinite(record["notes"]["suspicion"]):
                yield "notes.suspicion", "is not finite"
        elif record["status"] == "done":
            yield from _metrics(record)
        elif record["metrics"] is not None or not record.get("error"):
            yield "metrics", "are there although the cell is n/a, or it gives no reason"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        yield "recipe", f"cannot be read: {type(error).__name__}: {error}"


def _keys(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    recipe = record["recipe"]
    victim = key_of(recipe["victim"])
    if victim != record["victim_key"]:
        yield "victim_key", f"is {record['victim_key'][:12]}, but its recipe gives {victim[:12]}"
    others = {"others": [key_of(other) for other in recipe["others"]]} if "others" in recipe else {}
    cell = key_of({**recipe, "victim": victim, **others})
    if cell != record["key"]:
        yield "key", f"is {record['key'][:12]}, but its recipe gives {cell[:12]}"


def _stated(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    recipe = record["recipe"]
    for name in STATED:
        if not record["environment"].get(name):
            yield f"environment.{name}", "is missing"
    if recipe["schema"] != record["schema"] or recipe["victim"]["schema"] != record["schema"]:
        yield "recipe.schema", "differs from the record's"


def _versions(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the areas of code and the plugins of another version, for a record that is right in all else."""
    recipe = record["recipe"]
    for place, stored, current in (
        ("recipe.victim.rooms", recipe["victim"]["rooms"], code_versions.of_victims()),
        ("recipe.rooms", recipe.get("rooms", {}), code_versions.of_cells()),
    ):
        for area in sorted({*stored, *current}):
            if (old := stored.get(area, 1)) != (new := current.get(area, 1)):
                yield f"{place}.{area}", f"is version {old}; this version has {new}: run it again"
    for kind, plugin in _plugins(recipe):
        known = registry.by_kind[kind].found
        entry = known.get(plugin["name"])
        if entry is not None and entry.origin == registry.BUILT_IN and entry.plugin.version != plugin["version"]:
            told = f"is version {plugin['version']}; this version has {entry.plugin.version}: run it again"
            yield f"recipe.{kind} {plugin['name']}", told


def _plugins(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "task", recipe["victim"]["task"]
    attack = recipe["victim"]["attack"]
    *modifiers, last = attack.get("parts", [attack])
    yield from (("modifier", part) for part in modifiers)
    yield "attack", last
    defense = recipe["defense"]
    for part in () if defense is None else defense.get("parts", [defense]):
        yield "defense", part


def _other_versions(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is worth knowing but no fault: other library versions, plugins that are not installed here."""
    recipe = record.get("recipe")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("victim"), dict):
        return
    for name, version in (recipe["victim"].get("libraries") or {}).items():
        if version != recipes.libraries().get(name):
            yield f"made with {name} {version}; here is {recipes.libraries().get(name)}"
    try:
        plugins = list(_plugins(recipe))
    except (KeyError, TypeError, AttributeError):
        return
    for kind, plugin in plugins:
        known = registry.by_kind[kind].found
        entry = known.get(plugin["name"])
        if entry is None:
            yield f"{kind} {plugin['name']} is not installed here: its version cannot be checked"
        elif entry.origin != registry.BUILT_IN:
            yield f"{kind} {plugin['name']} is external, from {entry.origin}"


def _words(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a record says of its cell in words must be what its recipe says."""
    recipe, cell = record["recipe"], record["cell"]
    victim, defense = recipe["victim"], recipe["defense"]
    expected = {
        "role": (record["role"], recipe["role"]),
        "cell.attack": (_bare(cell["attack"]), victim["attack"]["name"]),
        "cell.model": (cell["model"], victim["model"]["name"]),
        "cell.seed": (cell["seed"], victim["seed"]),
        "cell.clean_size": (cell["clean_size"], recipe["labels"]),
        "cell.task": (cell["task"].partition("/")[0], victim["task"]["name"]),
    }
    if victim["target"] is not None:
        expected["cell.target"] = (cell["target"], victim["target"])
    if defense is not None:
        names = defense["name"] if "parts" not in defense else "+".join(part["name"] for part in defense["parts"])
        expected["cell.defense"] = (_bare(cell["defense"]), names)
    for name, (stated, found) in expected.items():
        same = stated == found or (name == "cell.model" and Path(str(stated)).name == Path(str(found)).name)
        if not same:
            yield name, f"is {stated!r}, but the recipe says {found!r}"


def _bare(spec: str) -> str:
    """Return the names in a spec, without fields."""
    from bench.suites.specs import split_top

    return "+".join(part.partition("(")[0] for part in split_top(spec, "+"))


def _metrics(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Compute the metrics again and compare."""
    stored, stated, target = record["predictions"], record["metrics"], record["cell"]["target"]
    try:
        clean = predictions.decode(stored["clean"])
        triggered = predictions.decode(stored["triggered"]) if stored.get("triggered") else None
    except Exception as error:  # bytes from outside: base64, zlib and numpy raise many kinds
        yield "predictions", f"cannot be read: {type(error).__name__}: {error}"
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
        target = target if triggered.targets is None else triggered.targets
        if (triggered.gold == target).any():
            yield "predictions.triggered.gold", "has examples whose gold label is the target; they do not count for ASR"
            return
    judged = predictions.judged(stored, target=record["cell"]["target"], rejects=metrics.rejects(stated))
    for name, value in metrics.measure(judged).items():
        if name not in stated and not metrics.MEASURED[name].core:
            continue  # the record is older than the metric
        if not _equal(stated.get(name), value):
            yield f"metrics.{name}", f"is {stated.get(name)}, but the predictions give {value}"


def _equal(stated: Any, value: float | None) -> bool:
    if stated is None or value is None:
        return stated is None and value is None
    return isinstance(stated, int | float) and abs(stated - value) <= EXACT


def _other_test_sets(name: str, record: Mapping[str, Any], golds: dict[str, tuple[str, str]]) -> Iterator[Problem]:
    """Records of one victim are judged on the same examples."""
    stored = record.get("predictions")
    if not isinstance(stored, dict):
        return
    for part in ("clean", "triggered"):
        if not isinstance(stored.get(part), dict):
            continue
        at, gold = f"{record.get('victim_key')} {part}", str(stored[part].get("gold"))
        first, known = golds.setdefault(at, (name, gold))
        if known != gold:
            told = f"differs from that of {first}, which has the same victim"
            yield Problem(name, str(record.get("key", "")), f"predictions.{part}.gold", told)
