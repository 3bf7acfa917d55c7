"""Poisoned models and records on disk: a folder shared by many processes, possibly over NFS."""

from __future__ import annotations

from bench.store.layout import StoreFull, StoreGone, StoreReadOnly, check_key
from bench.store.locks import Lock, LockInfo, heartbeat
from bench.store.records import Unreadable
from bench.store.upkeep import Upkeep

__all__ = [
    "Lock",
    "LockInfo",
    "Store",
    "StoreFull",
    "StoreGone",
    "StoreReadOnly",
    "Unreadable",
    "check_key",
    "heartbeat",
]


class Store(Upkeep):
    """The folder with records, failures, artifacts and locks.

    Open it with a path; None means ``DOORBENCH_STORE``, then the user's cache folder. It holds nothing but the path,
    so it can be pickled and sent to workers.

    Raises:
        RequestError: the folder cannot be a store, or a newer version made it. Later on: :class:`StoreFull`,
            :class:`StoreReadOnly` and :class:`StoreGone`, each a RequestError.
    """
