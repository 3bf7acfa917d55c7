"""DoorBench compares backdoor defenses for fine-tuned language models.

Users write ``from doorbench import ...``, which hands over the same names. Each loads on first use, so that
``import bench`` stays quick and imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench._version import __version__ as __version__

if TYPE_CHECKING:
    from bench.api import Outcome as Outcome
    from bench.api import evaluate as evaluate
    from bench.api import load_attack as load_attack
    from bench.api import load_defense as load_defense
    from bench.api import load_task as load_task
    from bench.api import records as records
    from bench.api import run_suite as run_suite

__all__ = ["Outcome", "evaluate", "load_attack", "load_defense", "load_task", "records", "run_suite"]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bench import api

    return getattr(api, name)
