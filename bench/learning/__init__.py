"""The fast core: tokenise once, batch by length, train, predict, mix. Importing it does not import torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.learning.classifier import Classifier as Classifier
    from bench.learning.encoding import TokenWindow as TokenWindow
    from bench.learning.encoding import encode as encode
    from bench.learning.hardware import resolve_device as resolve_device
    from bench.learning.hardware import resolve_precision as resolve_precision
    from bench.learning.mixing import mix as mix
    from bench.learning.mixing import mix_into as mix_into
    from bench.learning.parts import feed_forward_layers as feed_forward_layers
    from bench.learning.parts import mean_activations as mean_activations
    from bench.learning.parts import reinitialise_head as reinitialise_head
    from bench.learning.training import train as train

_HOMES = {
    "Classifier": "classifier",
    "TokenWindow": "encoding",
    "encode": "encoding",
    "feed_forward_layers": "parts",
    "mean_activations": "parts",
    "mix": "mixing",
    "mix_into": "mixing",
    "reinitialise_head": "parts",
    "resolve_device": "hardware",
    "resolve_precision": "hardware",
    "train": "training",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
