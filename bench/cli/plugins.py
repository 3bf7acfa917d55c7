"""The commands about attacks, defenses and tasks: what is available, and how to write one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import completion
from bench.cli.options import AsJson, a_folder
from bench.cli.terminal import say


def list_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="attacks|payloads|defenses|tasks|measures|models|suites", autocompletion=completion.kinds
        ),
    ],
    of_kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="purification|training|filter|detection",
            help="only defenses of this kind",
            autocompletion=completion.defense_kinds,
        ),
    ] = None,
    needs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NEED",
            help="only defenses that need no more than this, such as clean; several may be given, or nothing",
            autocompletion=completion.needs,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what is available; defenses with their kind and with what they need."""
    from bench.cli import listing

    rows = listing.listing(kind, of_kind=of_kind, needs=needs or ())
    if as_json:
        say(json.dumps(rows, indent=1))
    elif rows:
        listing.show(rows)
    else:
        say(f"there are no such {kind}; `doorbench list {kind}` has all", err=True)


def describe(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="of an attack, a modifier, a defense, a task, a suite or a model",
            autocompletion=completion.names,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Say what something is: citation, needs, every parameter with type, bounds and default; a suite in full."""
    from bench.cli import describing

    description = describing.description(name)
    say(json.dumps(description, indent=1) if as_json else describing.in_words(description))


def new(
    kind: Annotated[str, typer.Argument(metavar="attack|defense|task")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="lower-case words joined by '-'")],
    out: Annotated[Path, typer.Option(callback=a_folder, help="folder in which the package's folder is made")] = Path(),
) -> None:
    """Write a package with a working plugin: one file, its entry point, and a test."""
    from bench import scaffold

    package = scaffold.create(kind, name, out)
    say(f"written to {package}; now:\n  pip install -e {package}\n  doorbench check {name}")


def check(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", help="an installed package, or the name of a plugin")],
    quick: Annotated[bool, typer.Option("--quick", help="metadata only, no training")] = False,
) -> None:
    """Run the conformance kit on the plugins of a package."""
    from bench import conformance
    from bench.store.words import counted

    plugins = conformance.plugins_of(package)
    failed = 0
    for plugin in plugins:
        for result in conformance.run(plugin, quick=quick):
            failed += not result.passed
            say(f"{'ok    ' if result.passed else 'FAILED'}  {plugin.kind} {plugin.name}: {result.check}")
            if not result.passed:
                say(f"        {result.why}")
    outcome = f"{counted(failed, 'check')} failed" if failed else "every check passed"
    say(f"{counted(len(plugins), 'plugin')}, {outcome}")
    if failed:
        raise typer.Exit(1)
