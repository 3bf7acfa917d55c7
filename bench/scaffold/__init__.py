"""``doorbench new``: a package with one working plugin, made from templates."""

from __future__ import annotations

import re
from pathlib import Path

from bench._version import __version__
from bench.errors import RequestError, unknown
from bench.plugins import registry
from bench.store import outputs

KINDS = ("attack", "defense", "task")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_MEANT = {"none": "no defense in a suite", "auto": "the best defense of the committed board in purify"}
_LONGEST = 40  # characters, so that the package's name fits everywhere


def create(kind: str, name: str, folder: Path) -> Path:
    """Write a package ``doorbench-<name>`` into a folder and return its path.

    Args:
        kind: ``attack``, ``defense`` or ``task``.
        name: of the plugin, lower-case words joined by ``-``.
        folder: in which the folder of the package is made.

    Raises:
        RequestError: the kind or the name is not valid, the name is taken, or the folder exists already.
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise RequestError(
            f"name {name[:80]!r} is not made of lower-case words joined by '-', {_LONGEST} characters at most."
        )
    if kind == "defense" and name in _MEANT:
        raise RequestError(
            f"defense {name!r} cannot be named so: the word stands for {_MEANT[name]}. Choose another name."
        )
    taken = registry.by_kind[kind]
    if name in taken.entries:
        raise RequestError(f"{kind} {name!r} is taken: {taken.entries[name].origin}. Choose another name.")
    package = folder / f"doorbench-{name}"
    if package.exists():
        raise RequestError(f"{package} exists already; nothing is overwritten.")
    module = f"doorbench_{name.replace('-', '_')}"
    words = {
        "kind": kind,
        "group": taken.group,
        "name": name,
        "module": module,
        "class_name": "".join(word.capitalize() for word in name.split("-")),
        "version": __version__,
    }
    files = {
        "pyproject.toml": "pyproject.toml.j2",
        "README.md": "README.md.j2",
        f"{module}.py": f"{kind}.py.j2",
        f"tests/test_{module}.py": "test.py.j2",
    }
    with outputs.folder_beside(package) as made:
        for path, template in files.items():
            target = made / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_render(template, words), encoding="utf-8")
    return package


def _render(template: str, words: dict[str, str]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # The templates are Python and TOML, and every word in them is a checked name; HTML escaping would break both.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(words)
