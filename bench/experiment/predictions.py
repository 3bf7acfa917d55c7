"""Per-example predictions as they stand in a record: small, exact, and readable without a GPU."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.contracts import Predictions
from bench.experiment.answers import Answers, Judged


@dataclass(frozen=True)
class StoredPredictions:
    """What a defended model said of one test set.

    Attributes:
        gold: int16 [n] gold labels.
        labels: int16 [n] predicted labels.
        rejected: bool [n].
        probabilities: float16 [n, classes].
        targets: int16 [n] where each example has a target label of its own, else None.
        sources: int32 [n]: the row of the test set that each triggered example was made from; None in clean
            predictions and in records from before they were kept.
    """

    gold: NDArray[np.int16]
    labels: NDArray[np.int16]
    rejected: NDArray[np.bool_]
    probabilities: NDArray[np.float16]
    targets: NDArray[np.int16] | None = None
    sources: NDArray[np.int32] | None = None

    @property
    def answers(self) -> Answers:
        """What a formula reads of them."""
        return Answers(self.gold, self.labels, self.rejected)


def pack(array: ArrayLike, kind: str) -> str:
    """Return an array as text: its bytes in the given form, compressed."""
    data = np.ascontiguousarray(array, dtype=np.dtype(kind)).tobytes()
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def unpack(stored: Mapping[str, Any], name: str, kind: str, n: int) -> NDArray[Any]:
    """Return a column of n values; a longer one is not unpacked to its end, as it may be endless.

    Raises:
        ValueError: the column is not packed, or not of n values.
    """
    size = n * np.dtype(kind).itemsize
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(base64.b64decode(stored[name]), size + 1)
    except (ValueError, zlib.error):
        raise ValueError(f"{name} is no compressed column in base64") from None
    if len(data) != size or not unpacker.eof:
        raise ValueError(f"{name} does not have the {n} values that are expected")
    return np.frombuffer(data, dtype=np.dtype(kind)).copy()


def encode(
    gold: ArrayLike, verdicts: Predictions, *, targets: ArrayLike | None = None, sources: ArrayLike | None = None
) -> dict[str, Any]:
    """Return JSON values: compressed little-endian columns in base64.

    Args:
        gold: [n] gold labels.
        verdicts: what the model said.
        targets: [n] where each example has a target label of its own.
        sources: [n] the rows of the test set that triggered examples were made from.
    """
    return {
        **({} if targets is None else {"target": pack(targets, "<i2")}),
        **({} if sources is None else {"source": pack(sources, "<i4")}),
        "n": len(verdicts.labels),
        "classes": int(verdicts.probabilities.shape[1]),
        "gold": pack(gold, "<i2"),
        "label": pack(verdicts.labels, "<i2"),
        "rejected": pack(verdicts.rejected, "u1"),
        "probabilities": pack(verdicts.probabilities, "<f2"),
    }


def decode(stored: Mapping[str, Any]) -> StoredPredictions:
    """Return what :func:`encode` stored; raises ``ValueError`` where a column is not packed or not of n rows."""
    n, classes = stored["n"], stored["classes"]
    gold, labels = unpack(stored, "gold", "<i2", n), unpack(stored, "label", "<i2", n)
    rejected = unpack(stored, "rejected", "u1", n).astype(bool)
    probabilities = unpack(stored, "probabilities", "<f2", n * classes).reshape(n, classes)
    targets = unpack(stored, "target", "<i2", n) if "target" in stored else None
    sources = unpack(stored, "source", "<i4", n) if "source" in stored else None
    return StoredPredictions(gold, labels, rejected, probabilities, targets, sources)


def encode_beside(columns: Mapping[str, NDArray[np.float32]] | None) -> dict[str, Any]:
    """Return the columns of measures as JSON values, under ``beside``; nothing where there are none."""
    packed = {name: {"n": len(column), "outcomes": pack(column, "<f4")} for name, column in (columns or {}).items()}
    return {"beside": packed} if packed else {}


def decode_beside(stored: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Return the columns ``beside`` stored predictions; raises ``ValueError`` where a number is not finite."""
    packed = stored.get("beside", {})
    columns = {name: unpack(one, "outcomes", "<f4", one["n"]).astype(np.float64) for name, one in packed.items()}
    for name, column in columns.items():
        if not np.isfinite(column).all():
            raise ValueError(f"the outcomes of {name!r} are not all finite")
    return columns


def judged(stored: Mapping[str, Any], *, target: int, rejects: bool) -> Judged:
    """Return what the formulas of metrics read, from the predictions in a record.

    Args:
        stored: predictions on the ``clean`` and on the ``triggered`` test set; the latter may be None. What measures
            say may be ``beside`` them.
        target: the target label, where triggered examples have none of their own.
        rejects: whether the defense may reject an example.
    """
    clean = decode(stored["clean"])
    triggered = decode(stored["triggered"]) if stored.get("triggered") else None
    own = None if triggered is None or triggered.targets is None else triggered.targets.astype(np.int64)
    return Judged(
        clean=clean.answers,
        triggered=None if triggered is None else triggered.answers,
        target=target if own is None else own,
        rejects=rejects,
        sources=None if triggered is None else triggered.sources,
        beside=decode_beside(stored),
    )
