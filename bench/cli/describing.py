"""``doorbench describe``: what a plugin, a suite, a model or a folder of data is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.cli.listing import KINDS
from bench.errors import unknown
from bench.plugins import catalogue, registry
from bench.suites import suite as suites


def description(name: str) -> dict[str, Any]:
    """Return everything that is known of a name, as JSON values; ``kind`` says what it is.

    Raises:
        RequestError: nothing has this name.
    """
    from bench.models import pretrained

    if name in suites.built_in() or name.endswith((".yaml", ".yml")):
        return _suite(name)
    if name in (models := pretrained.list_models()):
        return _model(name, models[name])
    if name.startswith("local/"):
        return _data(name)
    if "+" in name or any(name in plugins.names() or name in plugins.broken for plugins in registry.by_kind.values()):
        return catalogue.description(name)
    every = [one for plugins in registry.by_kind.values() for one in plugins.names()]
    raise unknown("name", name, [*every, *suites.built_in(), *models], listing=f"doorbench list {'|'.join(KINDS)}")


def in_words(described: dict[str, Any]) -> str:
    """Return a description as plain text."""
    if described["kind"] not in ("suite", "collection", "model", "data"):
        return catalogue.in_words(described)
    lines = [f"{described['name']} ({described['kind']})", "", described["about"], ""]
    if "yaml" in described:
        return "\n".join([*lines, described["yaml"].rstrip()])
    facts = {name: value for name, value in described.items() if name not in ("name", "kind", "about")}
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        lines.append(f"{name:<{width}}  {shown:,}" if isinstance(value, int) else f"{name:<{width}}  {shown}")
    return "\n".join(lines)


def _suite(name: str) -> dict[str, Any]:
    parts = suites.load_all(name)
    if len(parts) > 1:
        described = {"name": name, "kind": "collection", "about": suites.describe(name)}
        return {**described, "suites": [part.name for part in parts]}
    (suite,) = parts
    return {"name": suite.name, "kind": "suite", "about": suite.description, "yaml": suites.in_yaml(suite)}


def _model(name: str, about: str) -> dict[str, Any]:
    from bench.models import embedded, pretrained

    facts: dict[str, Any] = {"name": name, "kind": "model", "about": about}
    if name in embedded.MODELS:
        model = embedded.MODELS[name]
        return {
            **facts, "type": model.kind, "parameters": model.parameters, "licence": model.licence,
            "from": model.origin, "weights": model.weights,
        }  # fmt: skip
    repo, commit = pretrained.PINNED[name]
    return {**facts, "from": f"https://huggingface.co/{repo}", "commit": commit}


def _data(name: str) -> dict[str, Any]:
    from bench.experiment import recipes
    from bench.experiment.grid import create_task
    from bench.tasks.local import find_folder

    task = recipes.task_of(create_task(name))
    folder: Path = find_folder(name.removeprefix("local/"))
    return {
        "name": name, "kind": "data", "about": f"a task on the files in {folder}",
        "labels": list(task.facts.labels), "texts": "pairs" if task.facts.pair else "single",
        "train": len(task.train), "validation": len(task.validation), "test": len(task.test),
    }  # fmt: skip
