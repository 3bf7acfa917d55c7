"""What can be wrong with a store as a whole, each an error of one line, and which errors of the system mean it."""

from __future__ import annotations

import errno

from bench.errors import RequestError

_FULL = {errno.ENOSPC, errno.EDQUOT}
READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class StoreError(RequestError):
    """Something is wrong with the store, and with nothing else."""


class StoreMissing(StoreError):
    """There is no store where one is to be read."""


class StoreFull(StoreError):
    """No space is left; everything that was written before is undamaged."""


class StoreReadOnly(StoreError):
    """The store can be read but not written."""


class StoreGone(StoreError):
    """The folder of the store has vanished, as when a network folder is unplugged."""


class StoreReplaced(StoreError):
    """Another store lies where this one was, as when one was made at the mount point of an unplugged disk."""


class StoreTrouble(StoreError):
    """A call of the file system failed although the store is there; tried once more, it may succeed."""


class Unreadable(StoreTrouble):
    """The system cannot read the file of one record or failure; nothing is known of what is in it."""


def is_full(error: BaseException) -> bool:
    """Whether an error means that the disk is full; safetensors puts the system's error into a text."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return isinstance(error, StoreFull) or any(f"(os error {code})" in str(error) for code in _FULL)
