"""The command line, put together from the modules beside this one. It imports torch only where a command trains."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, NoReturn

import typer

from bench._version import __version__
from bench.cli import checkpoints, flags, models, plugins, reports, runs, store, terminal
from bench.errors import RequestError

LONGEST_LINE = 2000  # characters of an error
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Run a suite": (runs.run, runs.status, runs.retry),
    "Show results": (
        reports.table,
        reports.responses,
        reports.figure,
        reports.collect,
        reports.claims,
        reports.compare,
        reports.stealth,
        reports.export,
        reports.site,
        reports.publish,
        reports.submit,
    ),
    "Attacks, defenses, tasks and models": (plugins.list_, plugins.describe, plugins.new, plugins.check),
    "A model of your own": (
        checkpoints.inspect,
        checkpoints.purify,
        checkpoints.judge,
        checkpoints.attack,
        checkpoints.rebuild,
    ),
}


RESUMED = "finished cells are kept, the same command goes on from here"


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM, with what is left. Typer would end the program at a KeyboardInterrupt, without a word."""


class _Commands(flags.Group):
    def invoke(self, ctx: Any) -> Any:
        """Run a command; what typer has other words for goes on to :func:`main`."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            goes_on = ctx.invoked_subcommand in {"run", "retry"}
            raise Interrupted(RESUMED if goes_on else "nothing half-written is left") from error
        except EOFError as error:
            raise RequestError(f"a file ends too early: {error or 'its end is missing'}.") from error


app = typer.Typer(
    cls=_Commands,
    name="doorbench",
    help="Compare backdoor defenses for fine-tuned language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for title, commands in COMMANDS.items():
    for command in commands:
        app.command(command.__name__.rstrip("_"), cls=flags.Command, rich_help_panel=title)(command)
app.add_typer(store.app, name="store", rich_help_panel="Run a suite")
app.add_typer(models.app, name="models", rich_help_panel="Attacks, defenses, tasks and models")


@cache
def command_line() -> Any:
    """Return all commands, put together once: typer reads the signatures of all of them for every call of ``app``."""
    return typer.main.get_command(app)


def main() -> None:
    """Run the command line; a wrong request is one line on standard error and exit status 2."""
    terminal.prepare()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is ended cleans up, as after Ctrl-C
    gc.set_threshold(
        100_000, 50, 100
    )  # hundreds of thousands of rows live until the end; looking at them costs seconds
    try:
        status = command_line()(prog_name="doorbench", standalone_mode=False)
    except RequestError as error:
        _refuse(str(error))
    except (Interrupted, KeyboardInterrupt) as error:
        terminal.say(f"doorbench: interrupted; {str(error) or RESUMED}", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:  # what nothing has more to say about: a folder without permission, a disk that is gone
        named = f"{error.filename}: " if error.filename else ""
        _refuse(f"{named}{error.strerror or error}")
    except typer.Abort:
        _refuse("nothing was done")
    except Exception as error:
        if not hasattr(error, "format_message"):  # of what cannot be parsed; the class depends on the version of typer
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        context = getattr(error, "ctx", None)
        more = "" if context is None else f". See {context.command_path} --help."
        _refuse(error.format_message().rstrip(".") + more)
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(status or 0)


def _refuse(why: str) -> NoReturn:
    terminal.say(f"doorbench: {' '.join(why.split())[:LONGEST_LINE]}", err=True)
    sys.exit(2)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log what happens")] = False,
) -> None:
    """Compare backdoor defenses for fine-tuned language models."""
    if verbose:
        logging.getLogger("bench").setLevel(logging.INFO)
