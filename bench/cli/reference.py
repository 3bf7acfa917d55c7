"""The reference pages of the documentation: written from fields, docstrings and the command line itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from bench.checkpoints.folder import markdown
from bench.cli import api_reference
from bench.contracts import Budget
from bench.contracts.kind import in_words
from bench.plugins import catalogue, registry
from bench.suites import suite

KINDS: dict[str, tuple[registry.Registry[Any], str]] = {
    "attacks": (registry.attacks, "What implants a backdoor."),
    "defenses": (registry.defenses, "What removes or blocks a backdoor."),
    "tasks": (registry.tasks, "Where text comes from. Folders in `DOORBENCH_DATA` are tasks too: `local/<folder>`."),
}


_SUITE_FILE = """
## A suite as a file

A suite is a YAML file; `doorbench run my-suite.yaml` runs it. A misspelt field or a value out of bounds is an error
before any job starts. `doorbench run quickstart --set ... --save my-suite.yaml` writes one with your settings.

```yaml
name: my-suite
description: Two defenses against two attacks.
task: [reviews, {name: local/mine, max_train: 2000}]
model: embedded
attack: [clean, badword, "badsent(rate=0.2)"]
defense: [none, fine-tuning, "e-pur+fine-mixing(reserve_ratio=0.3)"]
seed: [0, 1, 2]
labels: [64, 320]
budget: {epochs: 3, learning_rate: 1.0e-4}
gate: {min_asr: 90}
profiles:
  small: {seed: [0], labels: [64]}
```

Attacks, defenses and tasks are written as `name`, as `name(field=value, ...)`, or as a mapping with `name` and fields.
`+` joins the parts of a defense, in their order, and a modifier with its attack. `--profile small` puts the fields of a
profile in the place of the suite's own; `--set axis=a,b` changes one.
""".strip()


def pages() -> dict[str, str]:
    """Return the Markdown of every reference page by its name."""
    plugins = {kind: _plugins(kind) for kind in KINDS}
    return {**plugins, "suites": _suites(), "api": api_reference.page(), "commands": _commands()}


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
    if kind == "tasks":
        lines += ["# Measures", "", "What a suite asks of every model beside its answers: `measures: [noise]`.", ""]
        for name in registry.measures.names():
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
        yield from (*_fields(description["parameters"]), "")


def _fields(parameters: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield from ("| field | type | default | |", "|---|---|---|---|")
    for name, field in parameters.items():
        limits = " or ".join(field["choices"]) or ", ".join(filter(None, (field["type"], field["bounds"])))
        default = "" if field["default"] is None or field["type"] == "object" else markdown(field["default"])
        yield f"| `{name}` | {markdown(limits)} | {default} | {markdown(field['about'])} |"


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
    lines = ["# Suites", "", "What `doorbench run` knows by name; `doorbench describe NAME` shows each in full.", ""]
    lines += ["| name | |", "|---|---|"]
    lines += [f"| `{name}` | {markdown(suite.describe(name))} |" for name in suite.built_in()]
    lines += ["", *_SUITE_FILE.splitlines(), ""]
    for title, model, about in (
        ("Fields of a suite", suite.Suite, "An axis takes one value or a list; every combination is a cell."),
        ("budget", Budget, "How victims are trained. On the command line: `--set budget.epochs=2`."),
        ("gate", suite.Gate, "Where an attack fails it, its cells are shown in grey and ranked nowhere."),
        ("Fields of a collection", suite.Collection, "Several suites under one name, with `suites` instead of axes."),
    ):
        lines += [f"## {title}", "", about, "", *_fields(catalogue.parameters(model)), ""]
    return "\n".join(lines) + "\n"


def _commands() -> str:
    from bench.cli.app import command_line

    lines = ["# Command line", "", "Exit status: 0 done, 1 something failed, 2 the request is wrong.", ""]
    lines += _command("doorbench", command_line())
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
