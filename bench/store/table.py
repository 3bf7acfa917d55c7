"""Many records as one table, fast: what was read once lies flattened in parquet files beside the single files.

The single files stay the truth. A compacted row is used only while its record's file has the size and the time of last
change that it had when it was read, so a record that changed, vanished or was set aside is never served from there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError
from bench.store.documents import Damaged, Newer, read_with_status, unwrap
from bench.store.layout import check_key
from bench.store.records import Records

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

SMALLEST_PART = 1000  # records; fewer new ones are read again next time instead of making a file of their own
MOST_PARTS = 32  # more are merged into one
LEFT_OUT = frozenset({"predictions"})
_KEY, _SIZE, _TIME, _ROW = "file.key", "file.size", "file.time", "row"
Stamp = tuple[int, int]


def flatten(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return all scalar leaves of a record by their path, joined by dots; lists and ``predictions`` are left out."""
    flat: dict[str, Any] = {}
    _flatten(record, "", flat)
    return flat


def _flatten(node: Mapping[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    for name, value in node.items():
        if isinstance(value, Mapping):
            if prefix or name not in LEFT_OUT:
                _flatten(value, f"{prefix}{name}.", flat)
        elif not isinstance(value, (list, tuple)) and (prefix or name not in LEFT_OUT):
            flat[prefix + name] = value


class Table(Records):
    pass
