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
class Subject:
    """A plugin to check."""

    kind: str
    name: str


@dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes:
        check: what was checked, in words.
        passed: whether it holds.
        why: the reason if it does not hold.
    """

    check: str
    passed: bool
    why: str = ""


def plugins_of(package: str) -> list[Subject]:
    """Return the plugins of an installed distribution, or the plugin of this name.

    Raises:
        RequestError: there is neither such a distribution nor such a plugin, or its plugins cannot be loaded; says why.
    """
    named = [Subject(kind, package) for kind, plugins in REGISTRIES.items() if package in plugins.entries]
    if named:
        return named
    wanted = _normal(package)
    mine = [
        Subject(kind, name)
        for kind, plugins in REGISTRIES.items()
        for name, entry in plugins.entries.items()
        if _normal(entry.origin) == wanted
    ]
    own_names = {package, *(point.name for point in _entry_points(package))}
    for name, why in (item for plugins in REGISTRIES.values() for item in plugins.broken.items()):
        if not mine and name in own_names:
            raise RequestError(f"the plugin {name}: {why}.")
    if mine:
        return mine
    if _installed(package):
        raise RequestError(f"{package} declares no plugin; entry-point groups: {', '.join(_groups())}.")
    if Path(package).exists():
        raise RequestError(f"{package} is a path; install it (pip install -e {package}) and give the package's name.")
    names = [name for plugins in REGISTRIES.values() for name in plugins.names()]
    external = {entry.origin for plugins in REGISTRIES.values() for entry in plugins.entries.values()} - {"built-in"}
    raise unknown("plugin or installed package", package, [*names, *external])


def _groups() -> list[str]:
    return [plugins.group for plugins in REGISTRIES.values()]


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


def run(plugin: Subject, *, quick: bool = False) -> Iterator[Result]:
    """Yield the outcome of every check of a plugin; ``quick`` leaves out those that train."""
    from bench.conformance import checks

    subject = REGISTRIES[plugin.kind].get(plugin.name)
    yield _outcome("it describes itself", lambda: checks.describes_itself(subject))
    yield _outcome("its parameters can be written down and read", lambda: checks.round_trips(subject))
    if quick:
        return
    with TemporaryDirectory(prefix="doorbench-") as folder:
        yield from _run_plugin(plugin, Path(folder))


def _run_plugin(plugin: Subject, folder: Path) -> Iterator[Result]:
    from bench.conformance import checks, world
    from bench.experiment.result_store import ResultStore

    name, here = plugin.name, folder / "world"
    if plugin.kind == "task":
        yield _outcome("it loads, the same every time", lambda: checks.loads(name))
        return
    if plugin.kind == "payload":
        payload = registry.payloads.create(name)
        yield _outcome("its test is true of what it writes", lambda: checks.pays_out(payload))
        return
    world.build(here)
    store, other = ResultStore(folder / "store"), ResultStore(folder / "other")
    if plugin.kind == "measure":
        yield _outcome("it gives columns, the same every time", lambda: checks.measures(here, store, other, name))
        return
    tasks = world.tasks_of(REGISTRIES[plugin.kind].get(name).kinds)
    if plugin.kind in ("attack", "modifier"):
        for task, words in tasks.items():
            yield _outcome(f"it implants on {words}", partial(checks.implants, here, store, name, task))
        same = (
            "the same seed gives the same records",
            lambda: checks.is_reproducible(here, store, other, name, ["none"]),
        )
    else:
        detects = issubclass(registry.defenses.get(name), Detector)
        verb, judge = ("judges", checks.detects) if detects else ("defends", checks.defends)
        for task, words in tasks.items():
            yield _outcome(f"it {verb} on {words}", partial(judge, here, store, name, task))
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
