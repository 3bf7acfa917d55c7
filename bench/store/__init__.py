"""Poisoned models and records on disk: a folder shared by many processes, possibly over NFS."""

from __future__ import annotations

from bench.store.layout import check_key, place_of
from bench.store.locks import Lock, LockInfo, heartbeat
from bench.store.troubles import (
    StoreError,
    StoreFull,
    StoreGone,
    StoreMissing,
    StoreReadOnly,
    StoreReplaced,
    StoreTrouble,
    Unreadable,
)
from bench.store.upkeep import Upkeep

__all__ = [
    "Lock",
    "LockInfo",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreGone",
    "StoreMissing",
    "StoreReadOnly",
    "StoreReplaced",
    "StoreTrouble",
    "Unreadable",
    "check_key",
    "heartbeat",
    "place_of",
]


class Store(Upkeep):
    """The folder with records, failures, artifacts and locks.

    Open it with a path; None means ``DOORBENCH_STORE``, then the user's cache folder. It holds nothing but the path and
    the id of the store, so it can be pickled and sent to workers.

    Raises:
        RequestError: the folder cannot be a store, there is none, or a newer version made it. Later on:
            :class:`StoreError`, whatever happens to its files.
    """
