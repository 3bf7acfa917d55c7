"""The outcomes of single examples as bytes: a bit for each where all are 1 or 0, so that those of many records fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.contracts import Kind
from bench.errors import RequestError
from bench.experiment import answers, metric, metrics, predictions, written
from bench.experiment.metrics import MEASURED, Outcomes, measured_beside, measured_of
from bench.store.derived import Derivation, Derived

_BITS, _FLOATS = b"b", b"f"
_COUNT = np.dtype("<u4")


def pack(outcomes: Outcomes) -> bytes:
    """Return outcomes [n] as bytes; NaN stands for an example that does not count."""
    values = np.asarray(outcomes, dtype=np.float64)
    absent = np.isnan(values)
    if not (absent | (values == 0) | (values == 1)).all():
        return _FLOATS + values.astype("<f8").tobytes()
    parts = [values == 1, *([absent] if absent.any() else [])]
    return _BITS + np.array(len(values), dtype=_COUNT).tobytes() + b"".join(np.packbits(one).tobytes() for one in parts)


def unpack(packed: bytes) -> Outcomes:
    """Return the outcomes [n] that :func:`pack` was given."""
    if packed[:1] == _FLOATS:
        return np.frombuffer(packed, dtype="<f8", offset=1).astype(np.float64)
    count = int(np.frombuffer(packed, dtype=_COUNT, count=1, offset=1)[0])
    size, start = -(-count // 8), 1 + _COUNT.itemsize
    bits = np.frombuffer(packed, dtype=np.uint8, offset=start)
    values = np.unpackbits(bits[:size], count=count).astype(np.float64)
    if len(bits) > size:
        values[np.unpackbits(bits[size:], count=count).astype(bool)] = np.nan
    return values


def together(each: Sequence[Mapping[str, Outcomes | None]], name: str) -> Outcomes:
    """Return the outcomes of records by a metric: [records, examples], NaN throughout where it is not defined."""
    if packed := [one.packed(name) for one in each if isinstance(one, KeptOutcomes)]:
        heads = {one[: len(_BITS) + _COUNT.itemsize] for one in packed if one is not None}
        if len(packed) == len(each) and len(heads) == 1 and (head := heads.pop()).startswith(_BITS):
            return _unpacked_together(head, packed)
    values = [one[name] for one in each]
    absent = np.full(next((len(one) for one in values if one is not None), 1), np.nan)
    return np.array([absent if one is None else one for one in values])


def _unpacked_together(head: bytes, packed: Sequence[bytes | None]) -> Outcomes:
    """Return the outcomes [n, examples] of bits that begin alike, for as many examples."""
    count = int(np.frombuffer(head, dtype=_COUNT, count=1, offset=len(_BITS))[0])
    size = -(-count // 8)
    absent = b"\0" * size + b"\xff" * size
    parts = (absent if one is None else one[len(head) :].ljust(2 * size, b"\0") for one in packed)
    bits = np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(len(packed), 2 * size)
    values = np.unpackbits(bits[:, :size], axis=1, count=count).astype(np.float64)
    values[np.unpackbits(bits[:, size:], axis=1, count=count).astype(bool)] = np.nan
    return values


def of_predictions(
    stored: Mapping[str, Any], *, measured: Mapping[str, float | None], kind: str | None, target: int | str
) -> dict[str, Outcomes | None]:
    """Return the outcomes by metric of predictions as a record has them.

    Args:
        stored: the predictions on both test sets.
        measured: the metrics of the record.
        kind: of the model; None for a classifier.
        target: the target label, or a payload in words.

    Raises:
        ValueError, IndexError: no evaluator wrote these predictions.
    """
    rejects = metrics.rejects(measured)
    if kind == Kind.GENERATION:
        return metrics.outcomes(written.judged(stored, rejects=rejects))
    return metrics.outcomes(predictions.judged(stored, target=int(target), rejects=rejects))


@cache
def derivation() -> Derivation:
    """Return how the packed outcomes of a record are computed."""
    return Derivation("outcomes", _code(), tuple(MEASURED), _packed)


def _packed(document: Mapping[str, Any]) -> dict[str, bytes | None]:
    cell, measured = document["cell"], document["metrics"]
    each = of_predictions(document["predictions"], measured=measured, kind=cell.get("kind"), target=cell["target"])
    return {name: None if one is None else pack(one) for name, one in each.items()}


def _code() -> str:
    """Return a hash of the code that decides outcomes."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for module in (answers, metric, metrics, predictions, written):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


class KeptOutcomes(Mapping[str, Outcomes | None]):
    """The outcomes by metric of one record, each unpacked when it is asked for."""

    __slots__ = ("_derived", "_key", "_kind")

    def __init__(self, derived: Derived, key: str, kind: Kind) -> None:
        self._derived, self._key, self._kind = derived, key, kind

    def __getitem__(self, name: str) -> Outcomes | None:
        """Return the outcomes of a metric; None where it is not defined."""
        packed = self.packed(name)
        return None if packed is None else unpack(packed)

    def packed(self, name: str) -> bytes | None:
        """Return the outcomes of a metric as :func:`pack` has them; None where it is not defined."""
        if name not in measured_of(self._kind) and name not in measured_beside(self._kind):
            raise KeyError(name)
        try:
            packed = self._derived.field(self._key, name)
        except (ValueError, IndexError) as error:  # only a file that no evaluator wrote
            raise RequestError(f"the store: record {self._key[:12]}, field predictions: {error}.") from None
        if packed is None and name in measured_beside(self._kind):
            raise KeyError(name)
        return packed

    def __contains__(self, name: object) -> bool:
        """Whether the record has a metric."""
        return name in measured_of(self._kind) or (
            name in measured_beside(self._kind) and self._derived.field(self._key, str(name)) is not None
        )

    def __iter__(self) -> Iterator[str]:
        """Yield the metrics; one that needs a measure only where the record has something of it."""
        yield from measured_of(self._kind)
        yield from filter(self.__contains__, measured_beside(self._kind))

    def __len__(self) -> int:
        """How many metrics there are."""
        return sum(1 for _ in self)
