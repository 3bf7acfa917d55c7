"""JSON documents with their own SHA-256, so that a truncated file or a flipped byte is noticed when it is read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.keys import canonical
from bench.store.words import counted

SCHEMA = 1
PASSING = {errno.EIO, errno.ESTALE}  # of a network folder or a disk; opened again, the file can often be read
_HEAD, _MIDDLE, _TAIL = b'{"sha256":"', b'","record":', b"}\n"
_BODY = len(_HEAD) + 64 + len(_MIDDLE)


class Damaged(Exception):
    """A file of the store is not what was written; the message says in what way."""


class Newer(Exception):
    """A later version of the program wrote the document; the message says which."""


def wrap(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of a document with its hash: valid JSON, canonical, one line."""
    body = canonical(document).encode("ascii")
    return _HEAD + hashlib.sha256(body).hexdigest().encode() + _MIDDLE + body + _TAIL


def unwrap(raw: bytes, *, key: str) -> dict[str, Any]:
    """Return the document of ``key``.

    Raises:
        Damaged: a byte is missing or changed, or the document belongs to another key.
        Newer: the document is whole, but of a later schema.
    """
    body = raw[_BODY : -len(_TAIL)]
    frame = _HEAD + hashlib.sha256(body).hexdigest().encode() + _MIDDLE
    if not (raw.startswith(frame) and raw.endswith(_TAIL) and len(raw) > len(frame)):
        raise Damaged(f"its content, {counted(len(raw), 'byte')}, does not match its SHA-256")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"it is no JSON document ({error})") from None
    if not isinstance(document, dict) or not isinstance(document.get("schema"), int):
        raise Damaged("it has no schema")
    if document["schema"] > SCHEMA:
        raise Newer(f"schema {document['schema']}; this version reads up to {SCHEMA}, so upgrade doorbench")
    if document.get("key") != key:
        raise Damaged(f"it belongs to the key {document.get('key')!r}")
    return document


def read_bytes(path: str | Path, *, most: int | None = None) -> bytes:
    """Return the content of a plain file; links, folders, pipes and files of more than ``most`` bytes are Damaged."""
    return read_with_status(path, most=most)[0]


def read_with_status(path: str | Path, *, most: int | None = None) -> tuple[bytes, os.stat_result]:
    """Return the content of a plain file and its status at that moment; an error that may pass gets one more try."""
    try:
        return _read_with_status(path, most)
    except OSError as error:
        if error.errno not in PASSING:
            raise
        return _read_with_status(path, most)


def _read_with_status(path: str | Path, most: int | None) -> tuple[bytes, os.stat_result]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if os.path.islink(path):
            raise Damaged("it is a link") from None
        raise error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Damaged("it is not a plain file")
        if most is not None and status.st_size > most:
            raise Damaged(f"it has {status.st_size:,} bytes, more than {most:,}")
        content = os.read(handle, status.st_size + 1)
        while len(content) != status.st_size and (more := os.read(handle, 1 << 20)):
            content += more
        return content, status
    finally:
        os.close(handle)
