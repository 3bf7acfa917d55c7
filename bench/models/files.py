"""The files of a pre-trained model: which ones count, their hashes, and the names of the weights in them.

Only safetensors are read and no code of a model is ever run.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError

if TYPE_CHECKING:
    import torch

TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
BUFFERS = ("position_ids", "token_type_ids")  # constants that older versions wrote beside the weights
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of layer norms in checkpoints that came from TensorFlow


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model.

    Attributes:
        folder: where it is.
        name: of the model, for error messages.
    """

    folder: Path
    name: str

    def bad(self, what: str) -> RequestError:
        """Return the error about this model."""
        return RequestError(f"model {self.name!r}: {what}.")

    def weight_hash(self) -> str:
        """SHA-256 of the safetensors file; of the names and hashes of all, in name order, where there are several."""
        files = self.weight_files()
        return sha256(files[0]) if len(files) == 1 else _sha256_of_all(files)

    def tokenizer_hash(self) -> str:
        """SHA-256 over the names and hashes of the tokenizer's files."""
        files = [self.folder / name for name in TOKENIZER_FILES if (self.folder / name).is_file()]
        files += self.folder.glob("*.model")
        if not files:
            raise self.bad(f"{self.folder} has no tokenizer; put its tokenizer.json there")
        return _sha256_of_all(files)

    def weight_files(self) -> list[Path]:
        """Return the safetensors files in name order; a folder with pickled weights only is refused."""
        whole, index = self.folder / "model.safetensors", self.folder / "model.safetensors.index.json"
        if whole.is_file():
            return [whole]
        if index.is_file():
            return [self.folder / name for name in self._shards(index)]
        if any(self.folder.glob("*.bin")) or any(self.folder.glob("*.pt")):
            call = f"AutoModel.from_pretrained({str(self.folder)!r}).save_pretrained('converted')"
            raise self.bad(
                f"{self.folder} has pickled weights only, which can run code and are never read; it needs "
                f'model.safetensors (if you trust the file: python -c "from transformers import AutoModel; {call}")'
            )
        raise self.bad(f"{self.folder} has no model.safetensors")

    def _shards(self, index: Path) -> list[str]:
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise self.bad(f"{index.name} is not an index of safetensors files: {told(error)}") from None
        for name in names:
            if Path(name).name != name or not name.endswith(".safetensors") or not (self.folder / name).is_file():
                raise self.bad(f"{index.name} names {name!r}, which is not a safetensors file in the same folder")
        return names

    def refuse_code(self) -> None:
        """Refuse a model that wants to run code of its own, or that has no readable configuration."""
        for file in (self.folder / "config.json", self.folder / "tokenizer_config.json"):
            try:
                settings: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
            except (OSError, ValueError) as error:
                raise self.bad(f"{file} is not readable JSON: {told(error)}") from None
            if "auto_map" in settings:
                raise self.bad(f"{file.name} asks for code of its own (auto_map), which is never run")
        if not (self.folder / "config.json").is_file():
            raise self.bad(f"{self.folder} has no config.json")

    def encoder(self, prefix: str) -> dict[str, torch.Tensor]:
        """Read the weights of the encoder, by their names inside the encoder."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        tensors: dict[str, torch.Tensor] = {}
        for file in self.weight_files():
            try:
                tensors.update(load_file(file))
            except (OSError, SafetensorError) as error:
                raise self.bad(f"{file} is not a readable safetensors file: {told(error)}") from None
        return {inner: tensors[name] for name, inner in inner_names(tensors, prefix).items()}

    def shapes(self, prefix: str) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the encoder's weights, by their names inside the encoder; weights are not read."""
        from safetensors import SafetensorError, safe_open

        shapes: dict[str, tuple[int, ...]] = {}
        for file in self.weight_files():
            try:
                with safe_open(file, "pt") as weights:
                    names = weights.keys()
                    shapes.update({name: tuple(weights.get_slice(name).get_shape()) for name in names})
            except (OSError, SafetensorError) as error:
                raise self.bad(f"{file} is not a readable safetensors file: {told(error)}") from None
        return {inner: shapes[name] for name, inner in inner_names(shapes, prefix).items()}


def inner_names(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Map names in a file to names inside the encoder; heads and constants are left out.

    A file of a bare encoder has no prefix; in one with a head, everything without the encoder's prefix is the head.
    """
    names = list(names)
    start = f"{prefix}." if any(name.startswith(f"{prefix}.") for name in names) else ""
    inner = {}
    for name in names:
        *path, last = name.removeprefix(start).split(".")
        if name.startswith(start) and last not in BUFFERS:
            old = last in _OLD_NAMES and bool(path) and "norm" in path[-1].lower()
            inner[name] = ".".join([*path, _OLD_NAMES[last] if old else last])
    return inner


def is_pooler(name: str) -> bool:
    """Some classifiers have no pooler and some encoders come without one; it counts as part of the head then."""
    return "pooler" in name.split(".")


def sha256(path: Path) -> str:
    """Return the hash of a file, remembered in this process until its size or time changes."""
    try:
        status = path.stat()
        return _sha256_of(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}.") from None


@functools.lru_cache(maxsize=256)
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of_all(files: Iterable[Path]) -> str:
    lines = [f"{file.name} {sha256(file)}\n" for file in sorted(files, key=lambda file: file.name)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_json(path: Path) -> Any:
    """Return the content of a JSON file of a user's; a byte order mark before it is left out.

    Raises:
        RequestError: it cannot be read, or is not JSON; one line with the file and the place.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}, byte {error.start + 1}: is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}, line {error.lineno}, column {error.colno}: is not JSON: {error.msg}.") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand brackets
        raise RequestError(f"{path}: is not JSON that can be read: {error}.") from None


def told(error: Exception) -> str:
    """Return the kind and the first line of another library's error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {(lines or ['no details'])[0][:300]}".rstrip(".")
