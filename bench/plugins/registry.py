"""Finds plugins: the classes in a package's modules, and whatever third parties declare as entry points."""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from bench.contracts import Attack, Defense, Measure, Modifier, Payload, Plugin, TaskSource, Trigger
from bench.errors import RequestError, unknown
from bench.plugins import foreign
from bench.suites import specs, strict

log = logging.getLogger(__name__)
P = TypeVar("P", bound=Plugin)
BUILT_IN = "built-in"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Entry(Generic[P]):
    """A discovered plugin and where it came from (``built-in`` or the distribution that declares it)."""

    plugin: type[P]
    origin: str


@dataclass
class Registry(Generic[P]):
    """All plugins of one kind, by name.

    Attributes:
        kind: the word for error messages, e.g. ``attack``.
        base: the class that plugins of this kind inherit.
        package: the package whose modules hold the built-in ones.
        group: the entry-point group; an entry point names a class, a module or a package.
    """

    kind: str
    base: type[P]
    package: str
    group: str
    broken: dict[str, str] = field(default_factory=dict)

    @cached_property
    def entries(self) -> dict[str, Entry[P]]:
        """Every plugin by name. A third party's plugin that cannot be loaded is reported and left out."""
        plugins: dict[str, Entry[P]] = {}
        for plugin in self._classes_in(importlib.import_module(self.package)):
            self._add(plugins, plugin, BUILT_IN)
        for point in entry_points(group=self.group):
            origin = point.dist.name if point.dist else point.value
            name = f"plugin {point.name} of {origin}"
            try:
                for plugin in foreign.loaded(partial(self._loaded, point), name):
                    self._add(plugins, plugin, origin)
            except (foreign.LeftOut, ValueError, TypeError) as error:
                self.broken[point.name] = str(error)
                log.warning("%s is left out: %s", name, error)
        return plugins

    def names(self) -> list[str]:
        """Names in alphabetical order."""
        return sorted(self.entries)

    def get(self, name: str) -> type[P]:
        """Return the plugin class, or raise a :class:`RequestError` with a near match."""
        if name in self.entries:  # also where a broken entry point has the same name
            return self.entries[name].plugin
        if name in self.broken:
            raise RequestError(f"{self.kind} {name!r} cannot be loaded: {self.broken[name]}")
        room = self.package.rpartition(".")[2]  # which has the name of its listing
        raise unknown(self.kind, name, self.entries, listing=f"doorbench list {room}")

    def create(self, entry: str | Mapping[str, Any]) -> P:
        """Build a plugin from a suite entry; every mistake is a one-line error that names the valid choices."""
        name, fields = specs.parse_entry(entry, self.kind)
        return build(self.get(name), fields)

    def _loaded(self, point: EntryPoint) -> list[type[P]]:
        target = point.load()
        if isinstance(target, ModuleType):
            return list(self._classes_in(target))
        if not (inspect.isclass(target) and issubclass(target, self.base)):
            raise TypeError(f"{point.value} is not a {self.base.__name__}")
        return [target]

    def _classes_in(self, module: ModuleType) -> Iterator[type[P]]:
        modules = [module]
        for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
            modules.append(importlib.import_module(f"{module.__name__}.{info.name}"))
        for part in modules:
            for value in vars(part).values():
                own = inspect.isclass(value) and value.__module__ == part.__name__
                if own and issubclass(value, self.base) and "name" in vars(value) and not inspect.isabstract(value):
                    yield value

    def _add(self, plugins: dict[str, Entry[P]], plugin: type[P], origin: str) -> None:
        if len(plugin.name) > 64 or not _NAME.fullmatch(plugin.name):
            raise ValueError(f"name {plugin.name[:80]!r} is not made of lower-case words joined by '-', 64 at most")
        if plugin.name in plugins:
            raise ValueError(f"name {plugin.name!r} is taken by {plugins[plugin.name].origin}")
        plugins[plugin.name] = Entry(plugin, origin)


def build(plugin: type[P], fields: Mapping[str, Any]) -> P:
    """Validate fields into a plugin; the error is one line with the valid fields or bounds."""
    valid = [info.alias or name for name, info in plugin.model_fields.items()]
    for name in fields:
        if name not in valid:
            raise unknown(f"field of {plugin.name}:", name, valid)
    try:
        return strict.validated(plugin, dict(fields))
    except ValidationError as error:
        fault = " ".join(part for part in strict.first_fault(error, plugin) if part)
        raise RequestError(f"{plugin.name}: {fault}. See `doorbench describe {plugin.name}`.") from None


attacks: Registry[Attack] = Registry("attack", Attack, "attacks", "doorbench.attacks")  # type: ignore[type-abstract]
defenses: Registry[Defense] = Registry("defense", Defense, "defenses", "doorbench.defenses")  # type: ignore[type-abstract]
tasks: Registry[TaskSource] = Registry("task", TaskSource, "bench.tasks", "doorbench.tasks")  # type: ignore[type-abstract]
modifiers: Registry[Modifier] = Registry("modifier", Modifier, "attacks", "doorbench.modifiers")  # type: ignore[type-abstract]
payloads: Registry[Payload] = Registry("payload", Payload, "attacks.payloads", "doorbench.payloads")  # type: ignore[type-abstract]
measures: Registry[Measure] = Registry("measure", Measure, "bench.measures", "doorbench.measures")  # type: ignore[type-abstract]


by_kind: dict[str, Registry[Any]] = {
    each.kind: each for each in (attacks, modifiers, payloads, defenses, tasks, measures)
}


def triggers() -> dict[str, type[Trigger]]:
    """Return the classes of triggers of all plugins, by the name of the class."""
    for known in by_kind.values():  # importing every plugin makes the triggers known
        known.names()
    kinds: dict[str, type[Trigger]] = {}
    waiting = Trigger.__subclasses__()
    while waiting:
        kind = waiting.pop()
        kinds[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return kinds


def create_task(entry: str | Mapping[str, Any]) -> TaskSource:
    """Build a task source; ``local/<folder>`` is short for ``local(folder=<folder>)``."""
    name, fields = specs.parse_entry(entry, "task")
    if name.startswith("local/"):
        name, fields = "local", {"folder": name.removeprefix("local/"), **fields}
    return tasks.create({"name": name, **fields})


def origin_of(plugin: Plugin | type[Plugin]) -> str:
    """Return where a plugin comes from: ``built-in``, or the distribution that declares it."""
    kind = plugin if inspect.isclass(plugin) else type(plugin)
    for plugins in by_kind.values():
        if issubclass(kind, plugins.base) and kind.name in plugins.entries:
            return plugins.entries[kind.name].origin
    return BUILT_IN
