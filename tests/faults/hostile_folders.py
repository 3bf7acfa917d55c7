"""Folders of records that mean harm: each is refused in lines of words, in seconds, without much memory."""

from __future__ import annotations

import copy
import gzip
import json
import os
import random
import resource
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.conformance import checks, world
from bench.contracts import Predictions
from bench.errors import RequestError
from bench.experiment import metrics, predictions
from bench.experiment.result_store import ResultStore
from bench.keys import key_of
from bench.results import submission
from bench.suites.suite import Suite

Record = dict[str, Any]
Harm = Callable[[Path, list[Record], random.Random], None]
SECONDS, MEGABYTES = 30.0, 1500  # that one folder may take
NEVER = {
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "1e400": "1e400",
    "10^400": "1" + "0" * 400,
    "10^5000": "1" + "0" * 5000,
    "deep list": "[" * 500 + "]" * 500,
    "deeper list": "[" * 100_000 + "]" * 100_000,
    "deep mapping": '{"a":' * 500 + "1" + "}" * 500,
    "half a surrogate": '"\\ud800"',
}
MAYBE = ('"abc"', "true", "null", "[]", "{}", "-1", "0.5", '""', '"\\u001b[31m"', "[[]]", "9007199254740993")


def good(folder: Path) -> tuple[Suite, list[Record]]:
    """Run a tiny suite; return it with its records."""
    made = world.build(folder / "world")
    store = ResultStore(folder / "store")
    defenses = ["none", "fine-tuning(steps=4)", "cube"]
    plan = checks.run(made, store, task="single", attack="badword", defense=defenses, seed=[0, 1])
    return plan.suite, list(store.records())


def write(folder: Path, records: list[Record]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "records.jsonl").write_text(lines, encoding="utf-8")


def rekeyed(record: Record) -> Record:
    """Give a changed record the keys of its changed recipe, as somebody would who knows how."""
    recipe = record["recipe"]
    record["victim_key"] = key_of(recipe["victim"])
    others = {"others": [key_of(other) for other in recipe["others"]]} if "others" in recipe else {}
    record["key"] = key_of({**recipe, "victim": record["victim_key"], **others})
    return record


def beside(make: Callable[[Path], None]) -> Harm:
    """Good records, and something beside them."""

    def harm(folder: Path, records: list[Record], dice: random.Random) -> None:
        write(folder, records)
        make(folder)

    return harm


def packed(content: Callable[[], Iterator[bytes]]) -> Harm:
    """An archive that is not what it seems."""

    def harm(folder: Path, records: list[Record], dice: random.Random) -> None:
        write(folder, records)
        with gzip.open(folder / "more.jsonl.gz", "wb", compresslevel=1) as file:
            for part in content():
                file.write(part)

    return harm


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 36)


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as own:
        before = os.getcwd()
        os.chdir(path.parent)  # the name of a socket is short
        own.bind(path.name)
        os.chdir(before)


def fields(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything inside a document."""
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, name)
        if isinstance(inner, dict | list):
            yield from fields(inner, (*path, name))


def in_a_field(text: str, folder: Path, records: list[Record], dice: random.Random) -> None:
    """A value in a random field of a random record; where the recipe changed, with keys to match if they can be."""
    place = dice.randrange(len(records))
    record = copy.deepcopy(records[place])
    *path, last = dice.choice(list(fields(record)))
    inner = record
    for name in path:
        inner = inner[name]
    inner[last] = "@here@"
    write(folder, [other for i, other in enumerate(records) if i != place])
    (folder / "one.json").write_text(json.dumps(record).replace('"@here@"', text), encoding="utf-8")


def changed(change: Callable[[Record], Any], wanted: Callable[[Record], bool]) -> Harm:
    """A record that was changed with knowledge, keys and all."""

    def harm(folder: Path, records: list[Record], dice: random.Random) -> None:
        place = dice.choice([i for i, record in enumerate(records) if wanted(record)])
        record = copy.deepcopy(records[place])
        change(record)
        write(folder, [rekeyed(record) if i == place else other for i, other in enumerate(records)])

    return harm


def is_done(record: Record) -> bool:
    return record["status"] == "done" and record["cell"]["defense"].startswith("fine-tuning")


def made_senseless(record: Record) -> None:
    record.update(status="n/a", error="it did not suit us", metrics=None, predictions=None)


def of_another_seed(record: Record) -> None:
    record["cell"]["seed"] = record["recipe"]["victim"]["seed"] = 7


def of_the_other_seed(folder: Path, records: list[Record], dice: random.Random) -> None:
    """The predictions of a good seed under the key of a bad one."""
    first = next(record for record in records if is_done(record) and record["cell"]["seed"] == 0)
    second = next(
        record
        for record in records
        if record["cell"]["seed"] == 1 and record["cell"]["attack"] == first["cell"]["attack"] and is_done(record)
    )
    lively = first | answered(first, 0)
    others = {id(first): lively, id(second): {**second, **{name: lively[name] for name in ("metrics", "predictions")}}}
    write(folder, [others.get(id(record), record) for record in records])


def answered(record: Record, seed: int) -> Record:
    """Return predictions of a model that is never twice as sure, and their metrics."""
    dice, stored = np.random.default_rng(seed), {}
    for part in ("clean", "triggered"):
        old = predictions.decode(record["predictions"][part])
        first = dice.random(len(old.gold))
        probabilities = np.stack([first, 1 - first], axis=1)
        verdicts = Predictions(probabilities.argmax(axis=1), probabilities, np.zeros(len(probabilities), dtype=bool))
        more = {
            name: value for name, value in (("targets", old.targets), ("sources", old.sources)) if value is not None
        }
        stored[part] = predictions.encode(old.gold, verdicts, **more)
    judged = predictions.judged(stored, target=record["cell"]["target"], rejects=False)
    return {"predictions": stored, "metrics": dict(metrics.measure(judged))}


def left_out(folder: Path, records: list[Record], dice: random.Random) -> None:
    place = dice.randrange(len(records))
    write(folder, [record for i, record in enumerate(records) if i != place])


HARMS: dict[str, Harm] = {
    "link to a file": beside(lambda folder: (folder / "a.json").symlink_to("/etc/passwd")),
    "link to itself": beside(lambda folder: (folder / "a.json").symlink_to("a.json")),
    "link to the root": beside(lambda folder: (folder / "all").symlink_to("/")),
    "link to its own folder": beside(lambda folder: (folder / "again").symlink_to(".")),
    "link instead of a suite": beside(lambda folder: (folder / "suite.yaml").symlink_to("/etc/passwd")),
    "pipe": beside(lambda folder: os.mkfifo(folder / "a.json")),
    "pipe of another name": beside(lambda folder: os.mkfifo(folder / "readme")),
    "device": beside(lambda folder: device(folder / "a.jsonl")),
    "socket": beside(lambda folder: listening(folder / "a.json")),
    "folder of that name": beside(lambda folder: os.mkfifo((folder / "a.json").absolute() / "b", 0o666)
                                  if (folder / "a.json").mkdir() else os.mkfifo(folder / "a.json" / "b")),
    "sparse record": beside(lambda folder: sparse(folder / "a.json")),
    "sparse lines": beside(lambda folder: sparse(folder / "a.jsonl")),
    "sparse archive": beside(lambda folder: sparse(folder / "a.jsonl.gz")),
    "bomb of zeros": packed(lambda: (bytes(1 << 24) for _ in range(64))),
    "bomb of spaces": packed(lambda: (b" " * (1 << 24) for _ in range(64))),
    "bomb of empty lines": packed(lambda: (b"\n" * (1 << 22) for _ in range(64))),
    "bomb of small lines": packed(lambda: (b"{}\n" * (1 << 22) for _ in range(32))),
    "bomb of brackets": packed(lambda: (b"[" * (1 << 24) for _ in range(16))),
    "no archive": beside(lambda folder: (folder / "a.jsonl.gz").write_bytes(b"\x1f\x8b" + bytes(100)) and None),
    "random bytes": beside(lambda folder: (folder / "a.json").write_bytes(random.Random(1).randbytes(5000)) and None),
    "UTF-16": beside(lambda folder: (folder / "a.json").write_bytes('{"recipe": {}}'.encode("utf-16")) and None),
    "NULs": beside(lambda folder: (folder / "a.jsonl").write_bytes(bytes(5000)) and None),
    "empty record": beside(lambda folder: (folder / "a.json").write_bytes(b"") and None),
    "record left out": left_out,
    "predictions of another seed": of_the_other_seed,
    "n/a for any reason": changed(made_senseless, is_done),
    "another seed, with its keys": changed(of_another_seed, is_done),
    "other data, with its keys": changed(
        lambda record: record["recipe"]["victim"]["task"].update(fingerprint="f" * 64), is_done),
    "other weights, with its keys": changed(
        lambda record: record["recipe"]["victim"]["model"].update(weights="f" * 64), is_done),
    "fewer labels, with its keys": changed(
        lambda record: (record["recipe"].update(labels=16), record["cell"].update(clean_size=16)), is_done),
    "predictions that unpack to too much": changed(
        lambda record: record["predictions"]["clean"].update(n=9_999_999, classes=9_999), is_done),
    **{f"{name} in a field": partial(in_a_field, text) for name, text in NEVER.items()},
}  # fmt: skip


def tried(folder: Path, dice: random.Random, *, count: int) -> Iterator[tuple[str, bool]]:
    """Try folders, every harm at least once where there are enough; yield names and whether each was refused."""
    suite, records = good(folder)
    assert verdict(folder / "good", partial(write, records=records), suite, refused=False)
    for number in range(count):
        names = list(HARMS)
        place = folder / f"folder {number}"
        if number < len(names):
            name = names[number]
            yield name, verdict(place, partial(HARMS[name], records=records, dice=dice), suite)
        else:
            text = dice.choice([*NEVER.values(), *MAYBE])
            make = partial(in_a_field, text, records=records, dice=dice)
            yield text[:20], verdict(place, make, suite, refused=text in NEVER.values() or None)


def verdict(place: Path, make: Callable[[Path], None], suite: Suite, *, refused: bool | None = True) -> bool:
    """Check a folder; return whether the check was quick and frugal and came out as it must.

    Args:
        place: where the folder is made.
        make: writes it.
        suite: that the records are of.
        refused: whether it has to be refused; None where both will do.
    """
    make(place)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    try:
        checked = submission.check(place, suite)
    except RequestError as error:
        lines = [str(error)]
    else:
        lines = [*map(str, checked.problems), *([checked.missing] if checked.missing else [])]
    seconds = time.monotonic() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    plain = all("\n" not in line and len(line) < 1000 for line in lines)
    as_it_must = refused is None or bool(lines) == refused
    return as_it_must and plain and seconds < SECONDS and grown < MEGABYTES
