"""Safetensors files read and written one tensor at a time, so that no model is in memory twice.

The library maps whole files into memory; every page that was touched then counts as this process's memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bench.errors import RequestError
from bench.models.files import Checkpoint, inner_names, read_header

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: its file, first byte, shape and type."""

    file: Path
    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Size of the tensor in its file."""
        count = 1
        for side in self.shape:
            count *= side
        return count * self.dtype.itemsize

    def read(self) -> torch.Tensor:
        """Read the tensor into memory of its own."""
        buffer = bytearray(self.bytes)
        with self.file.open("rb") as file:
            file.seek(self.start)
            if file.readinto(buffer) != len(buffer):
                raise RequestError(f"{self.file}: ends in the middle of a tensor.")
        if not buffer:
            return torch.empty(self.shape, dtype=self.dtype)
        return torch.frombuffer(buffer, dtype=self.dtype).reshape(self.shape)


def places(file: Path) -> dict[str, Place]:
    """Return where every tensor of a safetensors file lies.

    Raises:
        RequestError: it is not such a file, or holds a type that weights do not have.
    """
    return {
        name: Place(file, start, shape, DTYPES[kind]) for name, (kind, shape, start, _) in read_header(file).items()
    }


def write(file: Path, tensors: Mapping[str, tuple[tuple[int, ...], torch.dtype, Callable[[], torch.Tensor]]]) -> None:
    """Write a safetensors file; each tensor is asked for when its turn comes and is dropped afterwards.

    Args:
        file: to write.
        tensors: by name: shape, type, and a call for the values, which are cast to the type.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (shape, dtype, _) in tensors.items():
        size = Place(file, 0, shape, dtype).bytes
        header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        for _, dtype, values in tensors.values():
            tensor = values().detach().to("cpu", dtype).contiguous()
            if tensor.numel():
                opened.write(tensor.flatten().view(torch.uint8).numpy().data)


@dataclass(frozen=True)
class LazyWeights(Mapping[str, torch.Tensor]):
    """The encoder of a pre-trained model by the names of a fine-tuned one: each weight is read when needed, as float32.

    Attributes:
        checkpoint: where the weights are.
        prefix: of the encoder in the fine-tuned model, e.g. ``bert``.
        wanted: the names and shapes that the fine-tuned model has.
        whole: the head is pre-trained as well, as that of a model that writes.
    """

    checkpoint: Checkpoint
    prefix: str
    wanted: Mapping[str, tuple[int, ...]]
    whole: bool = False

    @cached_property
    def places(self) -> dict[str, Place]:
        """Where each weight lies, by its name in the fine-tuned model."""
        by_name = {name: place for file in self.checkpoint.weight_files() for name, place in places(file).items()}
        inner = inner_names(by_name, self.prefix)
        named = {f"{self.prefix}.{inside}": by_name[name] for name, inside in inner.items()}
        named |= by_name if self.whole else {}
        return {name: place for name, place in named.items() if self.wanted.get(name) == place.shape}

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.places[name].read().to(torch.float32)

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def digest(model: Any) -> str:
    """Return the SHA-256 of a torch module's weights: names, types, shapes and values, in the order of names."""
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()
