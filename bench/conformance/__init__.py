"""The conformance kit: what a plugin has to do, on tiny tasks and a tiny model, in a minute.

For the test suite of a plugin's package::

    from doorbench import conformance


    def test_conformance() -> None:
        conformance.verify("my-attack")

Importing it is quick; torch comes with the first check that trains.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.contracts import Detector
from bench.errors import RequestError, unknown
from bench.plugins import registry

REGISTRIES = registry.by_kind


@dataclass(frozen=True)
class Checked:
    """A plugin to check."""

    kind: str
    name: str


@dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes:
        check: what was looked at, in words.
        passed: whether it holds.
        why: the reason where it does not.
    """

    check: str
    passed: bool
    why: str = ""


def plugins_of(package: str) -> list[Checked]:
    """Return the plugins of an installed distribution, or the plugin of this name.

    Raises:
        RequestError: there is neither; says what is installed, or why the package's plugins cannot be loaded.
    """
    named = [Checked(kind, package) for kind, found in REGISTRIES.items() if package in found.found]
    if named:
        return named
    wanted = _normal(package)
    mine = [
        Checked(kind, name)
        for kind, found in REGISTRIES.items()
        for name, entry in found.found.items()
        if _normal(entry.origin) == wanted
    ]
    if broken := [f"{name}: {why}" for found in REGISTRIES.values() for name, why in found.broken.items()]:
        points = {point.name for point in _entry_points(package)}
        for told in broken:
            if not mine and (told.partition(":")[0] in points or told.partition(":")[0] == package):
                raise RequestError(f"the plugin {told}.")
    if mine:
        return mine
    if _entry_points(package) is not None and _installed(package):
        raise RequestError(f"{package} declares no plugin; entry-point groups: {', '.join(_groups())}.")
    if Path(package).exists():
        raise RequestError(f"{package} is a path; install it (pip install -e {package}) and give the package's name.")
    names = [name for found in REGISTRIES.values() for name in found.names()]
    external = {entry.origin for found in REGISTRIES.values() for entry in found.found.values()} - {"built-in"}
    raise unknown("plugin or installed package", package, [*names, *external])


def _groups() -> list[str]:
    return [found.group for found in REGISTRIES.values()]


def _entry_points(package: str) -> list[Any]:
    if not _installed(package):
        return []
    return [point for point in distribution(package).entry_points if point.group in _groups()]


def _installed(package: str) -> bool:
    try:
        distribution(package)
    except (PackageNotFoundError, ValueError):
        return False
    return True


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def verify(name: str, *, quick: bool = False) -> None:
    """Check the plugins of a package, or one plugin; raises ``AssertionError`` with everything that does not hold."""
    failed = [
        f"{plugin.kind} {plugin.name}: {result.check}: {result.why}"
        for plugin in plugins_of(name)
        for result in run(plugin, quick=quick)
        if not result.passed
    ]
    assert not failed, "\n".join(failed)


def run(plugin: Checked, *, quick: bool = False) -> Iterator[Result]:
    """Yield the outcome of every check of a plugin; ``quick`` leaves out those that train."""
    from bench.conformance import checks

    found = REGISTRIES[plugin.kind].get(plugin.name)
    yield _outcome("it describes itself", lambda: checks.describes_itself(found))
    yield _outcome("its parameters can be written down and read", lambda: checks.round_trips(found))
    if quick:
        return
    with TemporaryDirectory(prefix="doorbench-") as place:
        yield from _trained(plugin, Path(place))


def _trained(plugin: Checked, place: Path) -> Iterator[Result]:
    from bench.conformance import checks, world
    from bench.store import Store

    name, here = plugin.name, place / "world"
    if plugin.kind == "task":
        yield _outcome("it loads, the same every time", lambda: checks.loads(name))
        return
    world.build(here)
    store, other = Store(place / "store"), Store(place / "other")
    kinds = {"single": "single texts", "pair": "pairs", "four": "four classes"}
    if plugin.kind in ("attack", "modifier"):
        for kind, words in kinds.items():
            yield _outcome(f"it implants on {words}", partial(checks.implants, here, store, name, kind))
        same = (
            "the same seed gives the same records",
            lambda: checks.is_reproducible(here, store, other, name, ["none"]),
        )
    else:
        detects = issubclass(registry.defenses.get(name), Detector)
        verb, judge = ("judges", checks.detects) if detects else ("defends", checks.defends)
        for kind, words in kinds.items():
            yield _outcome(f"it {verb} on {words}", partial(judge, here, store, name, kind))
        yield _outcome("it reads what it declares only", lambda: checks.keeps_to_its_needs(here, store, name))
        same = (
            "the same seed gives the same records",
            lambda: checks.is_reproducible(here, store, other, "badword", [name]),
        )
    yield _outcome(*same)


def _outcome(check: str, call: Callable[[], Any]) -> Result:
    try:
        call()
    except AssertionError as error:
        return Result(check, False, str(error))
    except Exception as error:  # a plugin may raise anything; the kit reports it and goes on
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Result(check, False, f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})")
    return Result(check, True)
