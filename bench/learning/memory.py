"""Memory of a training on a CPU, taken from the system once and not for every tensor."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# Parameters of glibc's mallopt(3), and what it does by itself after large blocks have come and gone.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_LARGE, _USUAL_COUNT = 32 << 20, 65536


@contextmanager
def kept(device: str) -> Iterator[None]:
    """Within, the process keeps memory that tensors give back, and gives it to the next ones.

    By itself glibc hands large blocks back to the system at once. Their pages are new and empty each time, and touching
    them costs more than most of what is computed in them. Elsewhere than on a CPU and with glibc nothing changes.
    """
    library = _glibc() if device == "cpu" else None
    if library is None:
        yield
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        library.mallopt(_MMAP_MAX, _USUAL_COUNT)
        library.mallopt(_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGE)
        library.malloc_trim(0)


@cache
def _glibc() -> Any:
    """Return the C library where it is glibc, else None."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
