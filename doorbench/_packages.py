"""Whether ``bench``, ``attacks`` and ``defenses`` are DoorBench's own; other projects have packages of these names."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("bench", "attacks", "defenses")


def check_packages() -> None:
    """Check that each package lies beside this one, where DoorBench installs them all, and that none was overwritten.

    Raises:
        ImportError: one of them is missing or overwritten, or Python finds another package of its name first.
    """
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = find_spec(name)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if origin != home / name / "__init__.py":
            raise ImportError(_shadowed(name, home, origin))
    if "evaluate" not in getattr(import_module("bench"), "__all__", ()):  # two distributions in one folder
        raise ImportError(
            f"another distribution wrote its own package 'bench' over DoorBench's in {home}; install doorbench into an "
            "environment of its own."
        )


def _shadowed(name: str, home: Path, origin: Path | None) -> str:
    if origin is None:
        return f"DoorBench's package {name!r} is missing from {home}; install doorbench again."
    return (
        f"Python finds another package {name!r} ({origin}) before DoorBench's own in {home}; "
        f"{_remedy(name, origin)}, or install doorbench into an environment of its own."
    )


def _remedy(name: str, origin: Path) -> str:
    """Say what to do: uninstall the distribution that the package belongs to, if there is one, or leave its folder."""
    from importlib.metadata import packages_distributions

    others = sorted(set(packages_distributions().get(name, ())) - {"doorbench"})
    if others:
        return f"uninstall {' and '.join(others)}"
    top = origin.parent if origin.name == "__init__.py" else origin
    return f"take {top.parent} off Python's path (is it the current folder?)"
