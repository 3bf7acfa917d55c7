"""One seed per component, each derived by hashing names, so that no component disturbs another."""

import hashlib

import numpy as np


def derive(*names: object) -> int:
    """Return a 32-bit seed from the names of what it is for, e.g. ``derive("clean sample", task, seed)``."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def rng(*names: object) -> np.random.Generator:
    """Return a generator seeded by :func:`derive`."""
    return np.random.default_rng(derive(*names))
