"""``doorbench store``: look after the folder with victims and records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import flags
from bench.cli.options import StoreFolder, number

app = typer.Typer(help="Look after the store.", no_args_is_help=True, cls=flags.Group)


@app.command(cls=flags.Command)
def ls(
    key: Annotated[str | None, typer.Argument(help="the key, or its beginning, to explain")] = None,
    store: StoreFolder = None,
) -> None:
    """Say in words what the store holds, or what one key stands for."""
    from bench.cli import store_printing

    if key is None:
        store_printing.show(store)
    else:
        store_printing.explain(store, key)


@app.command(cls=flags.Command)
def add(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="a store, or a folder of records as in results/")],
    store: StoreFolder = None,
) -> None:
    """Add the records of a folder after checking them, so that a run goes on from there."""
    from bench.cli import store_printing

    if not store_printing.add(store, folder):
        raise typer.Exit(1)


@app.command(cls=flags.Command)
def verify(store: StoreFolder = None) -> None:
    """Check every file; what is damaged is set aside and will be made again."""
    from bench.cli import store_printing

    if store_printing.verify(store):
        raise typer.Exit(1)


@app.command(cls=flags.Command)
def diff(
    first: Annotated[str, typer.Argument(metavar="KEY", help="a key, or its beginning")],
    second: Annotated[str, typer.Argument(metavar="KEY", help="the key to compare it with")],
    store: StoreFolder = None,
) -> None:
    """Say in which ingredients of their recipes two keys differ."""
    from bench.cli import store_printing

    store_printing.diff(store, first, second)


@app.command(cls=flags.Command)
def gc(
    keep: Annotated[list[str] | None, typer.Option("--keep", metavar="SUITE", help="keep what it needs")] = None,
    cap: Annotated[
        float | None,
        typer.Option(
            metavar="GB", min=0, callback=number, help="free only what exceeds this size, the least recently used first"
        ),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="do it; without, only say what would be freed")] = False,
    store: StoreFolder = None,
) -> None:
    """Free victims that no named suite needs, or the least recently used; records always stay."""
    from bench.cli import store_printing

    store_printing.collect(store, keep=keep or [], cap_gb=cap, apply=apply)
