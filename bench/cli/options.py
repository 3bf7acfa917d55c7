"""Arguments and options that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import completion, terminal

SuiteName = Annotated[
    str,
    typer.Argument(
        metavar="SUITE", help="a built-in name, a YAML file, or last: the last run", autocompletion=completion.suites
    ),
]
SuiteOrFolder = Annotated[
    str,
    typer.Argument(
        metavar="SUITE",
        help="a built-in name, a YAML file, a folder that holds records, or last: the last run",
        autocompletion=completion.suites,
    ),
]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="AXIS=A,B", help="change an axis or a field")]
Profile = Annotated[str | None, typer.Option("--profile", help="a size that the suite offers, such as small")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="default: DOORBENCH_STORE, then the user's cache")]
AnyLibraries = Annotated[
    bool, typer.Option("--any-libraries", help="also show records made under other versions of torch and the like")
]
Yes = Annotated[bool, typer.Option("--yes", help="also a grid of more than a million cells")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


def a_file(path: Path | None) -> Path | None:
    """Refuse an output that cannot be written before any work for it begins."""
    from bench.store import outputs

    if path is not None:
        outputs.refuse_file(path)
    return path


def a_folder(path: Path | None) -> Path | None:
    """Refuse a folder that cannot be written to before any work for it begins."""
    from bench.store import outputs

    if path is not None:
        outputs.refuse_folder(path)
    return path


def number(value: float | None) -> float | None:
    """Refuse what is no finite number, which every bound would let through."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def positive(value: float | None) -> float | None:
    """Refuse what is no finite number above 0; nothing given is fine."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"{value} is not a number above 0")
    return value


Out = Annotated[Path | None, typer.Option("--out", callback=a_file, help="write here instead of printing")]
OutFolder = Annotated[Path | None, typer.Option("--out", callback=a_folder, help="folder to write to")]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda", help="where to compute; auto takes a GPU if there is one")
]


def joined(settings: list[str] | None, profile: str | None) -> list[str]:
    """Return the settings of a command with its profile, which is a setting too."""
    return [*([] if profile is None else [f"profile={profile}"]), *(settings or ())]


def write_or_print(text: str, out: Path | None) -> None:
    """Write a text to a file, or print it as it is."""
    if out is None:
        terminal.write(text)
    else:
        from bench.store import outputs

        outputs.write(out, text)
