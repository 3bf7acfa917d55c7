"""Weights as the difference to base weights, exact to the bit.

A fine-tuned float is close to the one it came from, so the difference of their bit patterns, read as integers, is
small: its upper bytes are nearly all zero and compress away, while the lowest are noise and stay as they are. (XOR of
the patterns does the same but carries spread upwards, which costs a tenth more.) A tensor that did not change costs
nothing; one that does not get smaller this way is stored plainly.

The arrays are numpy's, whatever their dtype; pass tensors of a dtype that numpy lacks, such as bfloat16, as an integer
view of the same width.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

FORMAT = 1
INDEX = "delta.index"  # the tensor that says how each of the others is stored
_NOTHING: Bytes = np.empty(0, np.uint8)


class DeltaError(ValueError):
    """Stored weights and base do not fit each other."""


def encode(weights: Mapping[str, Array], base: Mapping[str, Array]) -> dict[str, Array]:
    """Return tensors for one safetensors file from which, with ``base``, the weights can be had back bit by bit."""
    stored: dict[str, Array] = {}
    entries: dict[str, Any] = {}
    for name, value in weights.items():
        value = np.asarray(value, order="C")
        entry: dict[str, Any] = {"dtype": value.dtype.str, "shape": value.shape, "crc": _checksum(value)}
        origin = base.get(name)
        planes = None
        if origin is not None and origin.dtype == value.dtype and origin.shape == value.shape:
            planes = _planes(value, np.asarray(origin, order="C"))
        if planes is None or sum(map(len, planes)) >= value.nbytes:
            stored[f"plain.{name}"] = _raw(value)
        else:
            entry["planes"] = [len(plane) for plane in planes]
            if sum(entry["planes"]):
                stored[f"delta.{name}"] = np.concatenate(planes)
        entries[name] = entry
    index = json.dumps({"format": FORMAT, "tensors": entries}).encode()
    return {INDEX: np.frombuffer(index, np.uint8), **stored}


def decode(stored: Mapping[str, Array], base: Mapping[str, Array]) -> dict[str, Array]:
    """Return the weights that :func:`encode` was given.

    Raises:
        DeltaError: the base is not the one they were encoded with, or ``stored`` is not what was encoded.
    """
    try:
        index = json.loads(stored[INDEX].tobytes())
        newer, entries = index["format"] > FORMAT, index["tensors"]
    except (KeyError, ValueError) as error:
        raise DeltaError(f"not stored as a difference: {error}") from None
    if newer:
        raise DeltaError(f"stored in format {index['format']}; this version knows {FORMAT}: upgrade doorbench")
    return {name: _decoded(name, entry, stored, base) for name, entry in entries.items()}


def save(path: Path, weights: Mapping[str, Array], base: Mapping[str, Array]) -> None:
    """Write weights as their difference to ``base`` into a safetensors file."""
    from safetensors.numpy import save_file

    save_file(encode(weights, base), path)


def load(path: Path, base: Mapping[str, Array]) -> dict[str, Array]:
    """Read what :func:`save` wrote, with the same base."""
    from safetensors.numpy import load_file

    return decode(load_file(path), base)


def _checksum(value: Array) -> int:
    return zlib.crc32(_raw(value).data)


def _raw(value: Array) -> Bytes:
    return value.reshape(-1).view(np.uint8)


def _bits(value: Array) -> Array:
    """Return the bit patterns of an array as one row of unsigned integers, without a copy."""
    width = value.dtype.itemsize if value.dtype.itemsize in (1, 2, 4, 8) else 1
    return value.reshape(-1).view(f"u{width}")


def _planes(value: Array, origin: Array) -> list[Bytes]:
    """Return the differences of bit patterns by byte, lowest first: nothing where all are 0, zstd where it pays."""
    bits = _bits(value)
    difference = bits - _bits(origin)  # wraps around, which decoding undoes
    if not difference.any():
        return [_NOTHING] * bits.itemsize
    one, top = bits.dtype.type(1), bits.dtype.type(8 * bits.itemsize - 1)
    zigzag = (difference << one) ^ (np.zeros_like(one) - (difference >> top))  # small of either sign: upper bytes 0
    return [_packed((zigzag >> bits.dtype.type(8 * i)).astype(np.uint8)) for i in range(bits.itemsize)]


def _packed(plane: Bytes) -> Bytes:
    if not plane.any():
        return _NOTHING
    packed = np.frombuffer(_codec().compress(plane, asbytes=True), np.uint8)
    return packed if len(packed) < len(plane) else plane


def _decoded(name: str, entry: Mapping[str, Any], stored: Mapping[str, Array], base: Mapping[str, Array]) -> Array:
    dtype, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
    try:
        if "planes" in entry:
            origin = np.asarray(base[name], order="C")
            if origin.dtype != dtype or origin.shape != shape:
                raise DeltaError(f"{name} is {origin.dtype} {origin.shape} in the base instead of {dtype} {shape}")
            data = stored[f"delta.{name}"] if sum(entry["planes"]) else _NOTHING
            bits = _bits(origin)
            value: Array = (bits + _added(data, entry["planes"], bits.dtype, bits.size)).view(dtype)
        else:
            value = stored[f"plain.{name}"].view(dtype).copy()
    except KeyError as error:
        raise DeltaError(f"{error} is missing") from None
    value = value.reshape(shape)
    if _checksum(value) != entry["crc"]:
        raise DeltaError(f"{name} does not come out as it was; the base weights are not those it was stored against")
    return value


def _added(data: Bytes, lengths: list[int], kind: np.dtype[Any], count: int) -> Array:
    zigzag, start = np.zeros(count, kind), 0
    for i, length in enumerate(lengths):
        if length:
            plane = data[start : start + length]
            if length < count:
                plane = np.frombuffer(_codec().decompress(plane, count, asbytes=True), np.uint8)
            zigzag |= plane.astype(kind) << kind.type(8 * i)
            start += length
    one = kind.type(1)
    difference: Array = (zigzag >> one) ^ (np.zeros_like(one) - (zigzag & one))
    return difference


@cache
def _codec() -> Any:
    import pyarrow

    return pyarrow.Codec("zstd", compression_level=1)  # over 1 GB/s, and next to nothing is lost against higher levels
