"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="a built-in name or a path to a YAML file")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="AXIS=A,B", help="change an axis or a field")]
Profile = Annotated[str | None, typer.Option("--profile", help="a size that the suite offers, such as small")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="default: DOORBENCH_STORE, then the user's cache")]
AnyLibraries = Annotated[
    bool, typer.Option("--any-libraries", help="also show records made under other versions of torch and the like")
]
Yes = Annotated[bool, typer.Option("--yes", help="also a grid of more than a million cells")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Out = Annotated[Path | None, typer.Option("--out", help="write here instead of printing")]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda", help="where to compute; auto takes a GPU if there is one")
]


def joined(settings: list[str] | None, profile: str | None) -> list[str]:
    """Return the settings of a command with its profile, which is a setting too."""
    return [*([] if profile is None else [f"profile={profile}"]), *(settings or ())]


def write_or_print(text: str, out: Path | None) -> None:
    """Write a text to a file, or print it as it is."""
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
