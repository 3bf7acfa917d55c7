"""Recipes in words: what a key stands for, and in what two of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError

if TYPE_CHECKING:
    from bench.plugins.registry import Registry

ABSENT = "(absent)"


def plugin_words(recipe: object, plugins: Registry[Any]) -> str:
    """Write a plugin's recipe as a suite would: its name and the parameters that differ from their defaults.

    If this installation does not have the plugin, or has it with other fields, all stored parameters are shown.
    """
    from bench.plugins.registry import build

    if not isinstance(recipe, Mapping):
        return "none" if recipe is None else str(recipe)
    if "parts" in recipe:
        return "+".join(plugin_words(part, plugins) for part in recipe["parts"])
    name, parameters = str(recipe.get("name")), recipe.get("parameters") or {}
    try:
        spec: str = build(plugins.get(name), parameters).spec
        return spec
    except RequestError:
        shown = ", ".join(f"{field}={value}" for field, value in parameters.items())
        return f"{name}({shown})" if shown else name


def attack_words(recipe: object) -> str:
    """Return how a suite would write the attack of a recipe; the parts before the last one are its modifiers."""
    from bench.plugins import registry

    parts = recipe.get("parts") if isinstance(recipe, Mapping) else None
    *modifiers, attack = parts or [recipe]
    return "+".join(
        [*(plugin_words(part, registry.modifiers) for part in modifiers), plugin_words(attack, registry.attacks)]
    )


def recipe_words(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a listing that a recipe can fill: kind, task, model, attack, defense, seed."""
    from bench.plugins import registry  # it imports every plugin, which only these words need

    victim = recipe.get("victim")
    inner = victim if isinstance(victim, Mapping) else recipe
    model = inner.get("model")
    role = recipe.get("role")
    defense = {"victim": "none", "floor": "clean model"}.get(str(role)) or plugin_words(
        recipe.get("defense"), registry.defenses
    )
    task = inner.get("task")
    folder = (task.get("parameters") or {}).get("folder") if isinstance(task, Mapping) else None
    return {
        "kind": recipe.get("kind", ""),
        "task": f"local/{folder}" if folder else plugin_words(task, registry.tasks),
        "model": str(model.get("name", "") if isinstance(model, Mapping) else model or ""),
        "attack": attack_words(inner.get("attack")),
        "defense": defense if recipe.get("kind") == "cell" else "",
        "seed": inner.get("seed"),
    }


def leaves(node: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of a recipe with its path: names joined by dots, positions in lists in brackets."""
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from leaves(value, f"{path}.{name}" if path else str(name))
    elif isinstance(node, (list, tuple)) and node:
        for position, value in enumerate(node):
            yield from leaves(value, f"{path}[{position}]")
    else:
        yield path, node


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (path, value in the first, value in the second) of every ingredient that differs."""
    a, b = dict(leaves(first)), dict(leaves(second))
    paths = dict.fromkeys([*a, *b])
    pairs = ((path, a.get(path, ABSENT), b.get(path, ABSENT)) for path in paths)
    return [(path, x, y) for path, x, y in pairs if x != y or type(x) is not type(y)]


def ago(seconds: float) -> str:
    """Say a duration in words: ``3 days``."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


def size(count: float) -> str:
    """Say a number of bytes in words: ``91.2 MB``."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def counted(count: int, noun: str) -> str:
    """Say how many: ``1 cell``, ``1,200 cells``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
