"""The files of a pre-trained model: which ones count, their hashes, and the names of the weights in them.

Only safetensors are read and no code of a model is ever run.
"""

from __future__ import annotations

import codecs
import functools
import hashlib
import json
import math
import re
import shlex
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
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}  # bytes
_LARGEST_HEADER = 100_000_000  # bytes; what the format allows
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
        files += self.sentence_pieces()
        if not files:
            raise self.bad(f"{self.folder} has no tokenizer; put its tokenizer.json there")
        return _sha256_of_all(files)

    def weight_files(self) -> list[Path]:
        """Return the safetensors files in name order; a folder without them is refused with what to do about it."""
        whole, index = self.folder / "model.safetensors", self.folder / "model.safetensors.index.json"
        if whole.is_file():
            return [whole]
        if index.is_file():
            return [self.folder / name for name in self._shards(index)]
        raise self.bad(self._why_no_weights())

    def _why_no_weights(self) -> str:
        names = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("._"))
        if any(re.fullmatch(r"model-\d+-of-\d+\.safetensors", name) for name in names):
            return (
                f"{self.folder} has shards of weights but no model.safetensors.index.json, which says what is where; "
                "copy it from where the model is from, or write the model again with save_pretrained"
            )
        if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in names):
            return (
                f"{self.folder} has pickled weights only, which can run code and are never read; it needs "
                f"model.safetensors (if you trust the file: {self._conversion()})"
            )
        others = [name for name in names if name.endswith(".safetensors")]
        only = f", only {others[0]}; if that is the whole model, rename it" if others else ""
        return f"{self.folder} has no model.safetensors{only}"

    def _conversion(self) -> str:
        """Return the command that converts pickled weights, with the head and the tokenizer that belong to them."""
        named = self.architectures()
        kind = named[0] if named and re.fullmatch(r"[A-Za-z]\w*", named[0]) else "AutoModel"
        code = (
            f"from transformers import AutoTokenizer as T, {kind} as M; "
            f"[k.from_pretrained({str(self.folder)!r}).save_pretrained('converted') for k in (M, T)]"
        )
        return shell(code)

    def architectures(self) -> tuple[str, ...]:
        """Return the architectures that config.json names; one alone may stand there as a text."""
        named = self.settings("config.json").get("architectures") or ()
        return (named,) if isinstance(named, str) else tuple(map(str, named))

    def sentence_pieces(self) -> list[Path]:
        """Return the files of sentence pieces; what macOS writes beside them is none."""
        return [path for path in self.folder.glob("*.model") if not path.name.startswith("._")]

    def settings(self, name: str) -> Mapping[str, Any]:
        """Return the fields of a JSON file of the folder; none if there is no such file."""
        file = self.folder / name
        try:
            fields = read_json(file) if file.is_file() else {}
        except RequestError as error:
            raise self.bad(str(error).rstrip(".")) from None
        if fields and file.read_bytes().startswith(codecs.BOM_UTF8):
            raise self.bad(f"{file} begins with a byte order mark, which transformers does not read; save it without")
        if not isinstance(fields, dict):
            raise self.bad(f"{file}: is no JSON object with fields")
        return fields

    def _shards(self, index: Path) -> list[str]:
        try:
            names = sorted(set(self.settings(index.name)["weight_map"].values()))
        except (KeyError, AttributeError, TypeError) as error:
            raise self.bad(f"{index.name} is not an index of safetensors files: {error_line(error)}") from None
        for name in names:
            if (
                not isinstance(name, str)
                or Path(name).name != name
                or not name.endswith(".safetensors")
                or not (self.folder / name).is_file()
            ):
                raise self.bad(f"{index.name} names {name!r}, which is not a safetensors file in the same folder")
        return names

    def refuse_code(self) -> None:
        """Refuse a model that wants to run code of its own, or that has no readable configuration."""
        for name in ("config.json", "tokenizer_config.json"):
            if "auto_map" in self.settings(name):
                raise self.bad(f"{name} asks for code of its own (auto_map), which is never run")
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
                raise self.bad(f"{file} is not a readable safetensors file: {error_line(error)}") from None
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
                raise self.bad(f"{file} is not a readable safetensors file: {error_line(error)}") from None
        return {inner: shapes[name] for name, inner in inner_names(shapes, prefix).items()}


def read_header(file: Path) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """Return type, shape, first byte and end of every tensor in a safetensors file.

    Raises:
        RequestError: it is not such a file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > min(size - 8, _LARGEST_HEADER):
                raise ValueError("its header is longer than the file")
            header = json.loads(opened.read(length))
        return {name: _tensor(entry, 8 + length, size) for name, entry in header.items() if name != "__metadata__"}
    except OSError as error:
        raise RequestError(f"{file}: cannot be read: {error.strerror or error}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RequestError(f"{file}: is not a readable safetensors file: {error}.") from None


def _tensor(entry: Mapping[str, Any], base: int, size: int) -> tuple[str, tuple[int, ...], int, int]:
    kind, shape = str(entry["dtype"]), tuple(int(side) for side in entry["shape"])
    start, end = (base + int(offset) for offset in entry["data_offsets"])
    if kind not in DTYPES:
        raise ValueError(f"weights of type {kind} are not supported; valid: {', '.join(DTYPES)}")
    if min(shape, default=0) < 0 or not base <= start <= end <= size or end - start != math.prod(shape) * DTYPES[kind]:
        raise ValueError("a tensor lies outside the file")
    return kind, shape, start, end


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


def shell(code: str) -> str:
    """Return the line for a shell that runs some Python."""
    return f'python -c "{code}"' if not set(code) & set('"$`\\!') else shlex.join(["python", "-c", code])


def error_line(error: Exception) -> str:
    """Return the kind and the first line of another library's error, and what follows where it only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no details"]
    words = lines[0] if not lines[0].endswith(":") else " ".join(lines)
    return f"{type(error).__name__}: {words[:300]}".rstrip(".")
