"""Looking after a store: check everything, list it in words, compare keys, free space."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from bench.errors import RequestError, unknown
from bench.store import words
from bench.store.answers import Answers
from bench.store.documents import Damaged, Newer
from bench.store.gc import Collector
from bench.store.layout import guarded, tree_bytes
from bench.store.table import TabulatedRecords
from bench.store.troubles import Unreadable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """Something in the store that cannot be used, and why."""

    room: str
    key: str
    reason: str


@dataclass(frozen=True)
class Report:
    """The outcome of a check.

    Attributes:
        checked: number of documents and artifacts that were read, by room.
        damaged: those that were set aside.
        newer: those of a newer version of the program, which stay where they are.
        unreadable: those that the system cannot read; they stay, too.
    """

    checked: dict[str, int]
    damaged: tuple[Problem, ...]
    newer: tuple[Problem, ...]
    unreadable: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was damaged or could not be read."""
        return not self.damaged and not self.unreadable


@dataclass(frozen=True)
class Listed:
    """A row of ``store ls``.

    Attributes:
        key: the whole key.
        status: of a record or failure: done, n/a or failed; of an artifact: stored.
        bytes: size on disk.
        age: seconds since it was written; of an artifact, since it was last used.
    """

    key: str
    kind: str
    task: str
    model: str
    attack: str
    defense: str
    seed: int | None
    status: str
    bytes: int
    age: float


class Upkeep(TabulatedRecords, Answers, Collector):
    """What ``doorbench store`` does."""

    @guarded
    def verify(self) -> Report:
        """Read and hash everything. What is damaged is set aside."""
        checked, damaged, newer, unreadable = {}, [], [], []
        for room in ("records", "failures", "artifacts"):
            keys = sorted(self.keys_of_artifacts() if room == "artifacts" else self.scan(room))
            checked[room] = len(keys)
            for key in keys:
                try:
                    (self.check_artifact if room == "artifacts" else self.check_record)(room, key)
                except Damaged as error:
                    damaged.append(Problem(room, key, str(error)))
                except Newer as error:
                    newer.append(Problem(room, key, str(error)))
                except Unreadable as error:
                    unreadable.append(Problem(room, key, str(error)))
        return Report(checked, tuple(damaged), tuple(newer), tuple(unreadable))

    @guarded
    def ls(self) -> list[Listed]:
        """List artifacts, records and failures in words: victims first, then by task, attack and defense."""
        now = time.time()
        rows = []
        for key in self.keys_of_artifacts():
            recipe = self.artifact_recipe(key)
            if recipe is not None:
                path = self.place("artifacts", key)
                age = now - self.last_use(key)
                rows.append(Listed(key, **words.recipe_words(recipe), status="stored", bytes=tree_bytes(path), age=age))
        kept = self.summaries(fields=("kind", "status", "cell"))
        for error in kept.unreadable.values():
            log.error("%s", error)
        columns = (kept.values(name) for name in ("kind", "status", "cell"))
        for key, stamp, kind, status, cell in zip(kept.keys, kept.stamps, *columns, strict=True):
            said = _cell_words({"kind": kind, "status": status, "cell": cell})
            rows.append(Listed(key, **said, bytes=stamp[0], age=now - stamp[1] / 1e9))
        stamps = self.scan("failures")
        for failure in self.usable("failures", stamps):
            size, changed, *_ = stamps[failure["key"]]
            rows.append(Listed(failure["key"], **_cell_words(failure), bytes=size, age=now - changed / 1e9))
        return sorted(rows, key=lambda row: (row.kind != "victim", row.task, row.attack, row.defense, row.key))

    @guarded
    def explain(self, key: str) -> str:
        """Say what a key, or the unique beginning of one, stands for."""
        key = self.resolve(key)
        lines = []
        if (recipe := self.artifact_recipe(key)) is not None:
            described = words.recipe_words(recipe)
            used = words.ago(time.time() - self.last_use(key))
            size = words.size(tree_bytes(self.place("artifacts", key)))
            lines.append(f"{_sentence(described)}; {size}, last used {used} ago")
        for record in (self.record(key), self.failure(key)):
            if record is not None:
                error = f": {record['error']}" if record.get("error") else ""
                metrics = {name: value for name, value in (record.get("metrics") or {}).items() if value is not None}
                scores = "".join(f", {name} {value:.2f}" for name, value in metrics.items())
                lines.append(f"{_sentence(_cell_words(record))}; {record.get('status')}{error}{scores}")
        return "\n".join(f"{key}: {line}" for line in lines) or f"{key}: nothing that can be read"

    def diff(self, key_a: str, key_b: str) -> list[tuple[str, Any, Any]]:
        """Return (ingredient, value in a, value in b) for everything in which two recipes differ."""
        return words.differences(self.recipe(key_a), self.recipe(key_b))

    @guarded
    def recipe(self, key: str) -> dict[str, Any]:
        """Return the recipe behind a key, or the unique beginning of one."""
        key = self.resolve(key)
        if (recipe := self.artifact_recipe(key)) is not None:
            return recipe
        document = self.record(key) or self.failure(key)
        if document is None or not isinstance(document.get("recipe"), dict):
            raise RequestError(f"the key {key} has no recipe that can be read.")
        stored: dict[str, Any] = document["recipe"]
        return stored

    @guarded
    def resolve(self, prefix: str) -> str:
        """Return the one key that starts with ``prefix``."""
        keys = sorted(self.keys_of_artifacts() | self.keys_of_records() | self.keys_of_failures())
        matches = [key for key in keys if prefix and key.startswith(prefix.lower())]
        if len(matches) == 1:
            return matches[0]
        if matches:
            shown = ", ".join(key[: len(prefix) + 6] for key in matches[:5])
            raise RequestError(f"the key {prefix!r} has {len(matches)} matches: {shown}{', ...' * (len(matches) > 5)}")
        near = [key[:12] for key in keys if prefix and key[0] == prefix[0].lower()][:8] or [k[:12] for k in keys[:8]]
        raise unknown("key", prefix, near)


def _cell_words(record: dict[str, Any]) -> dict[str, Any]:
    cell = record.get("cell") or {}
    names = {name: str(cell.get(name, "")) for name in ("task", "model", "attack", "defense")}
    return {"kind": str(record.get("kind", "")), **names, "seed": cell.get("seed"), "status": str(record.get("status"))}


def _sentence(words: dict[str, Any]) -> str:
    against = f" against {words['defense']}" if words["defense"] else ""
    return f"{words['kind']}: {words['attack']}{against} on {words['task']}, {words['model']}, seed {words['seed']}"
