"""DoorBench compares backdoor defenses for fine-tuned language models.

For notebooks and scripts: ``from doorbench import evaluate, load_attack, load_defense, load_task, records, run_suite``.
For plugins: ``from doorbench.contracts import Attack, Defense, ...``, :mod:`doorbench.tasks`, and
``from doorbench import conformance, learning``. Everything loads on first use: ``import doorbench`` is quick and
imports no torch.

Raises:
    ImportError: another package stands where ``bench``, ``attacks`` or ``defenses`` of DoorBench should be.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from doorbench._packages import check_packages

check_packages()

import bench  # noqa: E402  (only after the check is it certain which package this is)
from bench import __version__ as __version__  # noqa: E402

if TYPE_CHECKING:
    from bench import *  # noqa: F403
    from bench import conformance as conformance
    from bench import learning as learning
    from doorbench import contracts as contracts
    from doorbench import tasks as tasks

_MODULES = {
    "conformance": "bench.conformance",
    "contracts": "doorbench.contracts",
    "learning": "bench.learning",
    "tasks": "doorbench.tasks",
}
__all__ = [*bench.__all__, *_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in bench.__all__:
        return getattr(bench, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(__all__))}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
