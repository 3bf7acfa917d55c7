"""Where the commands print: any terminal, whatever it can show, and texts of others that must not control it."""

from __future__ import annotations

import logging
import os
import sys
from typing import IO, Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderResult
from rich.segment import Segment

from bench.errors import plain


class _Shown:
    """What is printed, with control characters in its texts spelt out; those of rich stay."""

    def __init__(self, inner: RenderableType) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.inner, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)


class _Hook:
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Wrap what is about to be printed."""
        return [_Shown(one) for one in renderables]


def console(*, file: IO[str] | None = None, width: int | None = None) -> Console:
    """Return a console for tables and texts of others; standard output by default."""
    made = Console(file=file, width=width)
    made.push_render_hook(_Hook())  # type: ignore[arg-type]
    return made


def say(text: str, *, err: bool = False) -> None:
    """Print a line for people."""
    _write(f"{plain(text)}\n", sys.stderr if err else sys.stdout)


def write(text: str) -> None:
    """Print a file: as it is where another program reads it, and without control characters on a terminal."""
    _write(plain(text) if sys.stdout.isatty() else text, sys.stdout)


def write_as_is(text: str) -> None:
    """Print what a console has made for a terminal like this one."""
    _write(text, sys.stdout)


def _write(text: str, stream: IO[str]) -> None:
    stream.write(text)
    stream.flush()


def prepare() -> None:
    """Let every stream print something for what it cannot encode, and log without control characters."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: >&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the process ends
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Plain("%(levelname)s: %(message)s"))


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the line with control characters spelt out."""
        return plain(super().format(record))
