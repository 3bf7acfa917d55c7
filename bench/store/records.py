"""Records: one JSON file each, written once. Failures: the last failed attempt of a job, which a later one replaces."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.errors import RequestError
from bench.store.documents import SCHEMA, Damaged, Newer, read_bytes, unwrap, wrap
from bench.store.layout import ATTEMPTS, Folder, check_key, sync_folder, write_file
from bench.store.troubles import Unreadable

log = logging.getLogger(__name__)
Stamp = tuple[int, int, int, int]  # of a file: size, times of change (ns; mtime, ctime) and inode
_SUFFIX = ".json"


class Records(Folder):
    """The records and failures of a store."""

    def check_content(self, room: str, document: Mapping[str, Any]) -> None:
        """Raise :class:`Damaged` where a whole document is not what belongs into ``records`` or ``failures``.

        Here every document will do: a store that knows what it holds says more.
        """

    def record(self, key: str) -> dict[str, Any] | None:
        """Return a record, or None if the store has none that can be used. A damaged one is set aside.

        Raises:
            Unreadable: there is a file that cannot be read.
        """
        return self._read("records", key)

    def has_record(self, key: str) -> bool:
        """Whether the store has an undamaged record."""
        return self.record(key) is not None

    def put_record(self, key: str, record: Mapping[str, Any]) -> None:
        """Write a record unless the key has one: the first writer wins, and a record is never changed afterwards.

        Raises:
            ValueError: the record lacks ``schema`` or its ``key``, holds what JSON cannot, or is no record.
            RequestError: the store cannot be written, is full, or has a newer version's record under this key.
        """
        self._write("records", key, record)

    def keys_of_records(self) -> set[str]:
        """Return the keys of all records, by their file names; each is only checked when it is read."""
        return set(self._names("records"))

    def records(self, keys: Iterable[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the usable records of ``keys``, in that order; of all keys in ascending order by default."""
        return self.usable("records", sorted(self.scan("records")) if keys is None else keys)

    def usable(self, room: str, keys: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield the records or failures of keys, in that order. What cannot be read is named in the log."""
        read = self.record if room == "records" else self.failure
        for key in keys:
            try:
                document = read(key)
            except Unreadable as error:
                log.error("%s", error)
                continue
            if document is not None:
                yield document

    def failure(self, key: str) -> dict[str, Any] | None:
        """Return the last failed attempt, or None."""
        return self._read("failures", key)

    def keys_of_failures(self) -> set[str]:
        """Return the keys that have a failed attempt."""
        return set(self._names("failures"))

    def put_failure(self, key: str, record: Mapping[str, Any]) -> None:
        """Store a failed attempt in place of the previous one. It never counts as a result."""
        path = self.place("failures", key, _SUFFIX)
        content = self._content("failures", key, record)
        with self.guard():
            self.home(path)
            temp = self.scratch()
            try:
                write_file(temp, content)
                os.replace(temp, path)
            finally:
                temp.unlink(missing_ok=True)
            sync_folder(path.parent)

    def drop_failure(self, key: str) -> None:
        """Remove the failed attempt of a job, if there is one."""
        with self.guard():
            self.place("failures", key, _SUFFIX).unlink(missing_ok=True)

    def scan(self, room: str) -> dict[str, Stamp]:
        """Return the stamp of every file of a room, by key."""
        with self.guard():
            return {key: stamp(entry.stat(follow_symlinks=False)) for key, entry in self._files(room)}

    def _names(self, room: str) -> list[str]:
        with self.guard():
            return [key for key, _ in self._files(room)]

    def _files(self, room: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield every file of a room with its key."""
        self.check_connected()
        for folder in _entries(self.root / room):
            if not folder.is_dir(follow_symlinks=False):
                continue
            for entry in _entries(folder.path):
                key = entry.name[:64]
                if entry.name[64:] == _SUFFIX and key[:2] == folder.name:
                    yield key, entry

    def check_record(self, room: str, key: str) -> None:
        """Read a record or failure and set it aside if it is damaged.

        Raises:
            Damaged: it was damaged; says in what way.
            Newer: a later version of the program wrote it; it stays.
            Unreadable: the system cannot read it; it stays.
        """
        path = self.place(room, key, _SUFFIX)
        try:
            self._unwrapped(room, key, path)
        except FileNotFoundError:
            return  # it has just been dropped or set aside
        except Damaged as error:
            self.set_aside(path, error, still_bad=lambda moved: self._stays_bad(room, key, moved))
            raise

    def _read(self, room: str, key: str) -> dict[str, Any] | None:
        path = self.place(room, key, _SUFFIX)
        try:
            return self._unwrapped(room, key, path)
        except FileNotFoundError:
            self.check_connected()
        except Newer as error:
            log.warning("%s is left alone: %s", path, error)
        except Damaged as error:
            self.set_aside(path, error, still_bad=lambda moved: self._stays_bad(room, key, moved))
        return None

    def _unwrapped(self, room: str, key: str, path: Path) -> dict[str, Any]:
        """Return the document of a key after all checks."""
        try:
            raw = read_bytes(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            self.check_connected(error)
            raise Unreadable(f"{path} cannot be read: {error.strerror}.") from error
        document = unwrap(raw, key=key)
        self.check_content(room, document)
        return document

    def _write(self, room: str, key: str, record: Mapping[str, Any]) -> None:
        path = self.place(room, key, _SUFFIX)
        content = self._content(room, key, record)
        with self.guard():
            for _ in range(ATTEMPTS):
                if self.write_new(path, content):
                    return
                try:
                    self._unwrapped(room, key, path)
                    return
                except FileNotFoundError:
                    continue  # somebody has just set it aside
                except Newer as error:
                    raise RequestError(f"{path} is in the way: {error}.") from None
                except Damaged as error:
                    self.set_aside(path, error, still_bad=lambda moved: self._stays_bad(room, key, moved))
        raise RequestError(f"{path} is damaged and cannot be moved out of the way.")

    def _content(self, room: str, key: str, record: Mapping[str, Any]) -> bytes:
        if record.get("key") != check_key(key) or record.get("schema") not in range(1, SCHEMA + 1):
            raise ValueError(f"a record needs schema {SCHEMA} and its key; got key {record.get('key')!r} under {key}")
        content = wrap(record)
        try:
            self.check_content(room, unwrap(content, key=key))
        except Damaged as error:
            raise ValueError(f"not a record: {error}") from None
        return content

    def _stays_bad(self, room: str, key: str, path: Path) -> bool:
        try:
            self._unwrapped(room, key, path)
        except Newer:
            return False
        except (Damaged, OSError, Unreadable):
            return True
        return False


def stamp(status: os.stat_result) -> Stamp:
    """Return what tells a file from what it was before."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _entries(path: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
