"""The reference pages of the documentation: written from fields, docstrings and the command line itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from bench.checkpoints.folder import markdown
from bench.contracts.kind import in_words
from bench.plugins import catalogue, registry
from bench.suites import suite

KINDS: dict[str, tuple[registry.Registry[Any], str]] = {
    "attacks": (registry.attacks, "What implants a backdoor."),
    "defenses": (registry.defenses, "What removes or blocks a backdoor."),
    "tasks": (registry.tasks, "Where text comes from. Folders in `DOORBENCH_DATA` are tasks too: `local/<folder>`."),
}


def pages() -> dict[str, str]:
    """Return the Markdown of every reference page by its name."""
    return {**{kind: _plugins(kind) for kind in KINDS}, "suites": _suites(), "commands": _commands()}


def overview(kind: str, *, page: str = "") -> str:
    """Return a Markdown table with one line per plugin, each name linked to its description.

    Args:
        kind: a key of ``KINDS``.
        page: the page that holds the descriptions; by default the one that the table is on.
    """
    plugins, _ = KINDS[kind]
    lines = ["| name | what it does | models | source |", "|---|---|---|---|"]
    for name in plugins.names():
        plugin = plugins.get(name)
        cells = (markdown(plugin.summary()), in_words(plugin.kinds), markdown(plugin.citation))
        lines.append(f"| [`{name}`]({page}#{name}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def _plugins(kind: str) -> str:
    plugins, about = KINDS[kind]
    lines = [f"# {kind.capitalize()}", "", about, "", overview(kind), ""]
    for name in plugins.names():
        lines += _plugin(catalogue.description(name))
    if kind == "attacks" and registry.modifiers.names():
        lines += ["# Modifiers", "", "What changes how an attack trains: `anchored+badword`.", ""]
        for name in registry.modifiers.names():
            lines += _plugin(catalogue.description(name))
    if kind == "attacks":
        lines += ["# Payloads", "", "What a model that writes is made to say: the `target` of a suite.", ""]
        for name in registry.payloads.names():
            lines += _plugin(catalogue.description(name))
    return "\n".join(lines) + "\n"


def _plugin(description: dict[str, Any]) -> Iterator[str]:
    yield from (f"## {description['name']}", "")
    yield from (*_paragraphs(description["about"]), "")
    facts = [f"Version {description['version']}."]
    if description["citation"]:
        facts.append(f"Citation: {markdown(description['citation'])}.")
    facts.append(f"Models: {', '.join(description['models'])}.")
    if "needs" in description:
        facts.append(f"Needs: {', '.join(description['needs']) or 'nothing but the model'}.")
    yield from (" ".join(facts), "")
    if description["parameters"]:
        yield from ("| parameter | type | default | |", "|---|---|---|---|")
        for name, field in description["parameters"].items():
            limits = " or ".join(field["choices"]) or ", ".join(filter(None, (field["type"], field["bounds"])))
            default = "" if field["default"] is None else markdown(field["default"])
            yield f"| `{name}` | {markdown(limits)} | {default} | {markdown(field['about'])} |"
        yield ""


def _paragraphs(text: str) -> Iterator[str]:
    """Yield a docstring as Markdown; names in double back quotes become code."""
    for line in text.splitlines():
        pieces = line.split("``")
        indent = line[: len(line) - len(line.lstrip())] if line.lstrip()[:2].rstrip(".").isdigit() else ""
        yield indent + "".join(
            f"`{piece}`" if i % 2 else markdown(piece).join(_ends(piece)) for i, piece in enumerate(pieces)
        )


def _ends(piece: str) -> tuple[str, str]:
    return (" " if piece[:1] == " " else "", " " if piece[-1:] == " " and piece.strip() else "")


def _suites() -> str:
    lines = ["# Suites", "", "What `doorbench run` knows by name. A suite is a YAML file; these are its fields.", ""]
    lines += ["| name | |", "|---|---|"]
    lines += [f"| `{name}` | {markdown(suite.describe(name))} |" for name in suite.built_in()]
    lines += ["", "| field | |", "|---|---|"]
    lines += [f"| `{name}` | {markdown(info.description or '')} |" for name, info in suite.Suite.model_fields.items()]
    return "\n".join(lines) + "\n"


def _commands() -> str:
    import typer

    from bench.cli.app import app

    group: Any = typer.main.get_command(app)
    lines = ["# Command line", "", "Exit status: 0 done, 1 something failed, 2 the request is wrong.", ""]
    lines += _command("doorbench", group)
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    if hasattr(command, "commands"):
        for inner, subcommand in sorted(command.commands.items()):
            yield from _command(f"{name} {inner}", subcommand)
        return
    arguments = [p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument"]
    yield from (f"## {name}", "", markdown(inspect.cleandoc(command.help or "")), "")
    yield from (f"    {' '.join([name, *map(str, arguments)])}", "")
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    if options:
        yield from ("| option | default | |", "|---|---|---|")
        for option in options:
            default = "" if option.default in (None, False) or callable(option.default) else option.default
            words = option.help or (f"one of {option.metavar}" if option.metavar else "")
            yield f"| `{', '.join(option.opts)}` | {markdown(default)} | {markdown(words)} |"
        yield ""
