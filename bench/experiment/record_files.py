"""Records in files: a published folder, the records of a store, what others submit. Whoever reads a folder reads here.

A file is taken at its word for nothing that can be computed again: the hash of a store's file follows from its bytes,
and the key of a record from its recipe.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from bench.errors import RequestError
from bench.experiment.record import Record
from bench.experiment.stored_fields import WrongField, printable
from bench.keys import canonical, key_of
from bench.store.documents import Damaged, Newer, read_bytes, unwrap
from bench.store.layout import KEY, walk

LONGEST_LINE = 64 << 20  # bytes; a record has some ten thousand
WHOLE = "file"  # stands for the field where the whole file is meant
LARGEST_FILE = 1 << 30  # bytes; a hundred thousand records, as they are published, have a tenth of it
MOST_FAULTS = 1000  # of a file, after which the rest is not read
MOST_EMPTY = 1000  # lines of a file
MOST_GROWTH = 100  # times that an archive may grow when it is unpacked; records grow threefold


@dataclass(frozen=True)
class RecordFile:
    """A record, and the file that holds it."""

    file: str
    path: Path
    record: Record


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        file: where the record is.
        key: of the record, as its file says; empty where it says none, or what is no key.
        field: what is wrong in it; ``file`` where the whole file is no record.
        what: in words.
        outdated: it was made by another version of a plugin or an area of code, and is wrong in nothing else here.
    """

    file: str
    key: str
    field: str
    what: str
    outdated: bool = False

    def __str__(self) -> str:
        """Return one line."""
        if self.field == WHOLE:
            return f"{self.file}: {self.what}"
        return f"{self.file}: record {self.key[:12] or '?'}, field {self.field}: {self.what}"


def files_below(folder: Path, forms: Iterable[str]) -> list[Path]:
    """Return the files below a folder whose names have one of some forms; none where there is no such folder.

    Raises:
        RequestError: a folder cannot be read, so that records might be missing.
    """
    try:
        files = (Path(inner, name) for inner, _, names in walk(folder) for name in names)
        return sorted(path for path in files if any(fnmatch(path.name, form) for form in forms))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RequestError(f"{error.filename}: cannot be read: {error.strerror}.") from None


def read(paths: Iterable[Path], *, below: Path | None = None) -> Iterator[RecordFile | Problem]:
    """Yield each record in files, or what is wrong with it.

    Args:
        paths: files with one record (.json, also with the hash that a store writes around it), or with one per line
            (.jsonl, .jsonl.gz).
        below: the folder from which the names of files are given; by default they are given as they are.
    """
    others = _Others()
    for path in (path for path in paths if not path.name.startswith("._")):  # what macOS writes beside files
        name = printable(path.relative_to(below) if below else path)
        faults = 0
        for place, raw in _documents(path, name):
            entry = raw if isinstance(raw, Problem) else _record(place, path, raw)
            entry = entry if isinstance(entry, Problem) else others.compared(entry)
            yield entry
            faults += isinstance(entry, Problem)
            if faults == MOST_FAULTS:
                yield Problem(name, "", WHOLE, f"is not read to its end: {faults} things are wrong with it so far")
                break


def _documents(path: Path, name: str) -> Iterator[tuple[str, bytes | Problem]]:
    """Yield the bytes of each document in a file, with its place."""
    try:
        content = read_bytes(path, most=LARGEST_FILE if ".jsonl" in path.suffixes else LONGEST_LINE)
        if ".jsonl" not in path.suffixes:
            yield name, content
            return
        packed = path.suffix == ".gz"
        lines = gzip.GzipFile(fileobj=io.BytesIO(content)) if packed else io.BytesIO(content)
        number, size, empty = 0, 0, 0
        while line := lines.readline(LONGEST_LINE + 1):
            number, size = number + 1, size + len(line)
            if len(line) > LONGEST_LINE:
                raise Damaged(f"line {number} has more than {LONGEST_LINE >> 20} MB")
            if packed and size > LONGEST_LINE + MOST_GROWTH * len(content):
                raise Damaged(f"it unpacks to more than {MOST_GROWTH} times its size")
            if line.strip():
                yield f"{name}:{number}", line
            elif (empty := empty + 1) > MOST_EMPTY:
                raise Damaged(f"it has more than {MOST_EMPTY} empty lines")
    except Damaged as error:
        yield name, Problem(name, "", WHOLE, f"is not used: {error}")
    except (OSError, EOFError, zlib.error) as error:
        yield name, Problem(name, "", WHOLE, f"cannot be read: {getattr(error, 'strerror', None) or error}")


def _record(name: str, path: Path, raw: bytes) -> RecordFile | Problem:
    key = ""
    try:
        document = json.loads(raw)
        if isinstance(document, dict) and document.keys() == {"sha256", "record"}:
            document = unwrap(raw if raw.endswith(b"\n") else raw + b"\n", key=str(document["record"]["key"]))
        if not isinstance(document, dict) or "recipe" not in document:
            return Problem(name, "", WHOLE, "is not a record: it has no recipe")
        stated = document.get("key")
        key = stated if isinstance(stated, str) and KEY.fullmatch(stated) else ""
        record = Record.of(document)
        _check_keys(document)
    except WrongField as error:
        return Problem(name, key, error.field or WHOLE, error.what)
    except (Damaged, Newer) as error:
        return Problem(name, "", "sha256", str(error))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return Problem(name, "", WHOLE, f"is not a record: {type(error).__name__}: {error}")
    return RecordFile(name, path, record)


def _check_keys(document: Mapping[str, Any]) -> None:
    """Raise :class:`WrongField` where a key is not the hash of its recipe."""
    recipe = document["recipe"]
    victim = key_of(recipe["victim"])
    if victim != document["victim_key"]:
        raise WrongField("victim_key", f"is {document['victim_key'][:12]}, but its recipe gives {victim[:12]}")
    others = {"others": [key_of(other) for other in recipe["others"]]} if "others" in recipe else {}
    cell = key_of({**recipe, "victim": victim, **others})
    if cell != document["key"]:
        raise WrongField("key", f"is {document['key'][:12]}, but its recipe gives {cell[:12]}")


@dataclass
class _Others:
    """What was read before, to which later records have to fit."""

    contents: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    asked: dict[tuple[str, str], tuple[str, Any]] = field(default_factory=dict)

    def compared(self, entry: RecordFile) -> RecordFile | Problem:
        """Return the record; or a problem, where its key or its victim stood beside other content before."""
        record = entry.record
        content = hashlib.sha256(canonical(record.document()).encode()).digest()
        first, same = self.contents.setdefault(record.key, (entry.file, content))
        if same != content:
            return Problem(entry.file, record.key, "key", f"is in {first} too, with other content")
        for part in ("clean", "triggered") if record.predictions else ():
            if (stored := getattr(record.predictions, part)) is None:
                continue
            for name in stored.of_the_victim:
                own, place = getattr(stored, name), (record.victim_key, f"predictions.{part}.{name}")
                first, known = self.asked.setdefault(place, (entry.file, own))
                if known != own:
                    fault = f"differs from that of {first}, which has the same victim"
                    return Problem(entry.file, record.key, place[1], fault)
        return entry
