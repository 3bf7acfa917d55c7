"""Artifacts: folders such as trained victims. Each is complete or absent, and has the hash of every file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from bench.errors import RequestError
from bench.store.documents import SCHEMA, Damaged, Newer, read_bytes, unwrap, wrap
from bench.store.layout import ATTEMPTS, Folder, check_key, drop_tree, guarded, sync_folder, walk, write_file
from bench.store.troubles import StoreFull, StoreTrouble, is_full

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
SUFFIXES = (".json", ".parquet", ".safetensors", ".txt")  # formats that cannot run code when they are read
_Seen = dict[str, tuple[int, int, int]]
_verified: dict[str, _Seen] = {}  # what this process has hashed: folder -> file -> size, time and inode at that moment


class Artifacts(Folder):
    """The artifacts of a store."""

    def artifact(self, key: str) -> Path | None:
        """Return the folder of an artifact, or None if the store has none that can be used.

        Sizes are checked every time, hashes once per process and again after a change. A damaged artifact is set aside,
        and so are files that its manifest does not list.
        """
        path = self.place("artifacts", key)
        try:
            self._verify(path, key)
        except FileNotFoundError:
            self.check_connected()
            return None
        except Newer as error:
            log.warning("%s is left alone: %s", path, error)
            return None
        except Damaged as error:
            self.set_aside(path, error, still_bad=lambda moved: self._is_bad(moved, key))
            return None
        except OSError as error:
            self.check_connected(error)
            raise StoreTrouble(f"{path} cannot be read: {error.strerror}.") from error
        self.touch(key)
        return path

    @guarded
    def artifact_hashes(self, key: str) -> dict[str, str]:
        """Return the SHA-256 of each file of a verified artifact by its name; empty if there is no such artifact."""
        path = self.artifact(key)
        listed = {} if path is None else _manifest(path, key)["files"]
        return {name: facts["sha256"] for name, facts in listed.items()}

    @guarded
    def artifact_recipe(self, key: str) -> dict[str, Any] | None:
        """Return the recipe that made an artifact, or None if there is no such artifact."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, Damaged, Newer):
            recipe: dict[str, Any] = _manifest(self.place("artifacts", key), key)["recipe"]
            return recipe
        return None

    def keys_of_artifacts(self) -> set[str]:
        """Return the keys of all artifacts, by their folder names; each is only checked when it is used."""
        keys: set[str] = set()
        with self.guard():
            self.check_connected()
            for folder in (self.root / "artifacts").iterdir():
                if len(folder.name) == 2:
                    names = (path.name for path in folder.iterdir())
                    keys.update(name for name in names if len(name) == 64 and name.startswith(folder.name))
        return keys

    def touch(self, key: str) -> None:
        """Note that an artifact is in use now, for the least-recently-used order."""
        with contextlib.suppress(OSError):  # a store that can only be read keeps its order
            os.utime(self.place("artifacts", key) / MANIFEST, follow_symlinks=False)

    @guarded
    def last_use(self, key: str) -> float:
        """Return the time of an artifact's last use, in seconds since 1970 by the file system's clock."""
        path = self.place("artifacts", key)
        with contextlib.suppress(FileNotFoundError):
            return (path / MANIFEST).lstat().st_mtime
        return path.lstat().st_mtime

    def put_artifact(self, key: str, recipe: Mapping[str, Any], fill: Callable[[Path], None]) -> Path:
        """Make an artifact: ``fill`` writes files into an empty folder, which then appears under its key in one step.

        Returns:
            The folder under the key. If another process was first, it is that process's artifact, and ours is dropped.

        Raises:
            ValueError: ``fill`` left a link, a special file, or a file with an ending that is not among ``SUFFIXES``.
            RequestError: the store cannot be written or is full.
        """
        target = self.place("artifacts", key)
        with self.guard():
            temp = self.scratch()
            os.mkdir(temp)
        try:
            _fill(fill, temp, self)
            with self.guard():
                _seal(temp, key, recipe)
                return self._adopt(temp, target, key)
        finally:
            drop_tree(temp)

    @guarded
    def check_artifact(self, room: str, key: str) -> None:
        """Hash every file of an artifact and set it aside if it is damaged.

        Raises:
            Damaged: it was damaged; says in what way.
            Newer: a later version of the program wrote it; it stays.
        """
        path = self.place(room, key)
        try:
            self._verify(path, key, rehash=True)
        except FileNotFoundError:
            return  # it has just been freed or set aside
        except Damaged as error:
            self.set_aside(path, error, still_bad=lambda moved: self._is_bad(moved, key))
            raise

    def _adopt(self, temp: Path, target: Path, key: str) -> Path:
        self.home(target)
        for _ in range(ATTEMPTS):
            try:
                os.rename(temp, target)
            except OSError:
                if not os.path.lexists(target):
                    raise
            else:
                sync_folder(target.parent)
                return target
            if (first := self.artifact(key)) is not None:
                return first
        raise RequestError(f"{target} is damaged or newer than this version and cannot be moved out of the way.")

    def _verify(self, path: Path, key: str, *, rehash: bool = False) -> None:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise Damaged("it is not a folder")
        try:
            files = _manifest(path, key)["files"]
        except FileNotFoundError:
            raise Damaged("it has no manifest") from None
        seen = _statuses(path, files)
        strays = [p for p in _walk(path) if p != MANIFEST and p not in files]
        if rehash or _verified.get(str(path)) != seen:
            for name, listed in files.items():
                if _hash(path / name) != listed["sha256"]:
                    raise Damaged(f"the content of {name} does not match its SHA-256")
            _verified[str(path)] = seen
        for stray in strays:
            reason = f"the manifest of {key} does not list it"
            self.set_aside(path / stray, reason, still_bad=lambda moved: True)

    def _is_bad(self, path: Path, key: str) -> bool:
        try:
            self._verify(path, key, rehash=True)
        except Newer:
            return False
        except (Damaged, OSError):
            return True
        return False


def _fill(fill: Callable[[Path], None], temp: Path, store: Folder) -> None:
    try:
        fill(temp)
    except Exception as error:
        if is_full(error) and not isinstance(error, StoreFull):
            with store.guard():
                raise OSError(errno.ENOSPC, "no space left") from error
        if isinstance(error, OSError) and store.holds(error.filename):
            with store.guard():
                raise
        raise


def _walk(path: Path) -> Iterator[str]:
    """Yield the relative names of the files below a folder; a link is yielded and not followed."""
    for folder, folders, names in walk(path):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted([*names, *links]):
            if not name.startswith(".nfs"):  # what NFS leaves of a file that is deleted while open
                yield Path(folder, name).relative_to(path).as_posix()


def _seal(path: Path, key: str, recipe: Mapping[str, Any]) -> None:
    """Write the manifest and force everything to the disk."""
    files = {}
    for name in _walk(path):
        file = path / name
        if not stat.S_ISREG(os.lstat(file).st_mode):
            raise ValueError(f"{name!r} is not a plain file; an artifact has nothing else")
        if not (_is_name(name) and name.endswith(SUFFIXES)) or name == MANIFEST:
            raise ValueError(f"{name!r} cannot be in an artifact; valid are names that end in {', '.join(SUFFIXES)}")
        files[name] = {"size": file.stat().st_size, "sha256": _hash(file, sync=True)}
    manifest = {"schema": SCHEMA, "kind": "artifact", "key": check_key(key), "created": time.time()}
    write_file(path / MANIFEST, wrap({**manifest, "recipe": dict(recipe), "files": files}))
    for folder, _, _ in walk(path, topdown=False):
        sync_folder(folder)


def _manifest(path: Path, key: str) -> dict[str, Any]:
    manifest = unwrap(read_bytes(path / MANIFEST), key=check_key(key))
    if not isinstance(manifest.get("files"), dict) or not all(_is_name(name) for name in manifest["files"]):
        raise Damaged("its manifest names a file outside of it")
    return manifest


def _is_name(name: str) -> bool:
    """Whether a file name stays inside its folder on every operating system."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not {"..", "/"} & set(parts) and not set(name) & set("\\:\0") and name == "/".join(parts)


def _statuses(path: Path, files: Mapping[str, Any]) -> _Seen:
    """Return size, time and inode of every listed file, after comparing its size with the manifest."""
    seen: _Seen = {}
    for name, listed in files.items():
        try:
            status = os.lstat(path / name)
        except (FileNotFoundError, NotADirectoryError):
            raise Damaged(f"{name} is missing") from None
        if not stat.S_ISREG(status.st_mode):
            raise Damaged(f"{name} is not a plain file")
        if status.st_size != listed["size"]:
            raise Damaged(f"{name} has {status.st_size} bytes instead of {listed['size']}")
        seen[name] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return seen


def _hash(path: Path, *, sync: bool = False) -> str:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb") as file:
        if sync:
            os.fsync(handle)
        return hashlib.file_digest(file, "sha256").hexdigest()
