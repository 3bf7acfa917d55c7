"""The command line. It imports torch only where a command trains."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bench._version import __version__
from bench.cli import checkpoints as own_commands
from bench.cli import models as model_commands
from bench.errors import RequestError

LONGEST_LINE = 2000  # characters of an error
app = typer.Typer(
    name="doorbench",
    help="Compare backdoor defenses for fine-tuned language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
store_app = typer.Typer(help="Look after the store.", no_args_is_help=True)
app.add_typer(store_app, name="store")
app.add_typer(model_commands.app, name="models")
own_commands.register(app)

SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="a built-in name or a path to a YAML file")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="AXIS=A,B", help="change an axis or a field")]
AnyLibraries = Annotated[
    bool, typer.Option("--any-libraries", help="also show records made under other versions of torch and the like")
]
Profile = Annotated[str | None, typer.Option("--profile", help="a size that the suite offers, such as small")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="default: DOORBENCH_STORE, then the user's cache")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Workers = Annotated[int | None, typer.Option(min=1, help="processes; default: one a GPU slot, or one")]
Slots = Annotated[int, typer.Option(min=1, help="processes that share a GPU")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda")]
Engine = Annotated[str, typer.Option(metavar="serial|loky|dask", help="this process, processes here, or a cluster")]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS|FILE", help="for dask: tcp://host:8786 or a cluster file, docs/cluster.md"),
]
TimeLimit = Annotated[float | None, typer.Option(min=1, help="seconds a cell may take")]
Out = Annotated[Path | None, typer.Option("--out", help="write here instead of printing")]


def main() -> None:
    """Run the command line; a wrong request is one line on standard error and exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        app()
    except RequestError as error:
        sys.stderr.write(f"doorbench: {' '.join(str(error).split())[:LONGEST_LINE]}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("doorbench: interrupted; finished cells are kept, the same command goes on from here\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)


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


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(metavar="attacks|defenses|tasks|models|suites")], as_json: AsJson = False
) -> None:
    """List what there is."""
    from bench.cli import listing

    rows = listing.listing(kind)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        listing.show(rows)


@app.command()
def describe(name: str, as_json: AsJson = False) -> None:
    """Say what a plugin is: citation, needs, every parameter with type, bounds and default."""
    from bench.plugins import catalogue

    found = catalogue.description(name)
    typer.echo(json.dumps(found, indent=1) if as_json else catalogue.in_words(found))


@app.command()
def run(
    suite: SuiteName,
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    workers: Workers = None,
    slots_per_gpu: Slots = 1,
    device: Device = "auto",
    engine: Engine = "loky",
    scheduler: Scheduler = None,
    time_limit: TimeLimit = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done")] = False,
    report: Annotated[bool, typer.Option(help="end with the table and the figures")] = True,
) -> None:
    """Run a suite; what is in the store already is not done again."""
    options: dict[str, Any] = dict(workers=workers, slots_per_gpu=slots_per_gpu, device=device, engine=engine)
    options |= dict(scheduler=scheduler, time_limit=time_limit)
    _go(suite, _all(settings, profile), store, options, dry_run=dry_run, report=report, again=False)


@app.command()
def retry(
    suite: SuiteName,
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    workers: Workers = None,
    slots_per_gpu: Slots = 1,
    device: Device = "auto",
    engine: Engine = "loky",
    scheduler: Scheduler = None,
    time_limit: TimeLimit = None,
    report: Annotated[bool, typer.Option()] = True,
) -> None:
    """Run the failed cells of a suite again, and whatever is still missing."""
    options: dict[str, Any] = dict(workers=workers, slots_per_gpu=slots_per_gpu, device=device, engine=engine)
    options |= dict(scheduler=scheduler, time_limit=time_limit)
    _go(suite, _all(settings, profile), store, options, dry_run=False, report=report, again=True)


def _all(settings: list[str] | None, profile: str | None) -> list[str]:
    """Return the settings of a command, the profile among them."""
    return [*([] if profile is None else [f"profile={profile}"]), *(settings or ())]


def _go(suite: str, settings: list[str], folder: Path | None, options: dict[str, Any], *,
        dry_run: bool, report: bool, again: bool) -> None:  # fmt: skip
    from bench import session
    from bench.cli import printing

    failed = 0
    for opened in session.Session.open_all(suite, settings, folder):
        if dry_run:
            typer.echo(opened.forecast())
            continue
        failed += printing.run(opened, again=again, **options).failed
        if report:
            printing.report(opened)
    if failed:
        same = shlex.join([suite, *(f"--set={text}" for text in settings), *([f"--store={folder}"] if folder else [])])
        typer.echo(f"{failed} jobs failed; see `doorbench status {same}`, then `doorbench retry {same}`.", err=True)
        raise typer.Exit(1)


@app.command()
def status(suite: SuiteName, settings: Settings = None, profile: Profile = None, store: StoreFolder = None) -> None:
    """Say what is done, running, waiting and failed, from the store alone."""
    from bench import session
    from bench.cli import printing

    for opened in session.Session.open_all(suite, _all(settings, profile), store):
        printing.status(opened)


@app.command()
def collect(
    suite: SuiteName, settings: Settings = None, profile: Profile = None, store: StoreFolder = None, out: Out = None
) -> None:
    """Print the table and draw the figures from whatever records exist, also while others run."""
    from bench import session
    from bench.cli import printing

    for opened, inner in session.in_folders(suite, _all(settings, profile), store):
        printing.report(opened, None if out is None else out / inner)


@app.command()
def export(
    suite: SuiteName,
    format: Annotated[str, typer.Option(metavar="parquet|csv|jsonl")] = "csv",
    out: Out = None,
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
) -> None:
    """Write one row a cell."""
    from bench import session

    text = session.Session.open(suite, _all(settings, profile), store).export(format, out)
    if text is not None:
        typer.echo(text, nl=False)


@app.command()
def table(
    suite: SuiteName,
    format: Annotated[str, typer.Option(metavar="terminal|md|csv|latex|html")] = "terminal",
    explain: Annotated[str | None, typer.Option(metavar="CELL", help="say how a number came about")] = None,
    out: Out = None,
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    any_libraries: AnyLibraries = False,
) -> None:
    """Print the table of a suite from whatever records exist."""
    from bench import session
    from bench.cli import printing

    opened = session.Session.open(suite, _all(settings, profile), store, any_libraries=any_libraries)
    if explain is not None:
        typer.echo(opened.explain(explain))
    elif format == "terminal" and out is None:
        printing.table(opened)
    elif out is None:
        typer.echo(opened.table(format), nl=False)
    else:
        out.write_text(opened.table(format), encoding="utf-8")


@app.command()
def figure(
    suite: SuiteName,
    out: Annotated[Path, typer.Option("--out", help="folder for PNG and PDF")],
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    any_libraries: AnyLibraries = False,
) -> None:
    """Draw the figures of a suite as PNG and PDF."""
    from bench import session

    for opened, inner in session.in_folders(suite, _all(settings, profile), store, any_libraries=any_libraries):
        for path in opened.figures(out / inner):
            typer.echo(str(path))


@app.command()
def site(
    suites: Annotated[list[str], typer.Argument(metavar="SUITE...", help="suites, or folders that hold records")],
    out: Annotated[Path, typer.Option("--out", help="folder of the site")],
    store: StoreFolder = None,
) -> None:
    """Write the leaderboard as static files that open from disk."""
    from bench import session

    typer.echo(str(session.build_site(suites, store, out=out)))


@app.command()
def publish(
    suite: SuiteName,
    out: Annotated[Path, typer.Option("--out", help="folder in results/")],
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    any_libraries: AnyLibraries = False,
) -> None:
    """Write records, tables and figures of a suite into a folder, as results/ holds them."""
    from bench import session
    from bench.results import publish

    for opened, inner in session.in_folders(suite, _all(settings, profile), store, any_libraries=any_libraries):
        for path in publish.publish(opened, out / inner):
            typer.echo(str(path))


@app.command()
def claims(
    suite: SuiteName,
    as_json: AsJson = False,
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    any_libraries: AnyLibraries = False,
) -> None:
    """Check the paper's claims against the records of a suite."""
    from bench import session
    from bench.cli import printing

    opened = session.Session.open_all(suite, _all(settings, profile), store, any_libraries=any_libraries)
    printing.claims(opened, as_json=as_json)


@app.command()
def stealth(
    suite: SuiteName,
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    causal_lm: Annotated[str | None, typer.Option("--causal-lm", help="folder or <Hub name>@<commit>")] = None,
    out: Out = None,
) -> None:
    """Measure how visible the triggers of a suite's victims are, as a Markdown table."""
    from bench import session
    from bench.analysis import stealth

    opened = session.Session.open(suite, _all(settings, profile), store)
    text = stealth.markdown(stealth.survey(opened.plan, opened.store, causal_lm=causal_lm))
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")


@store_app.command("ls")
def store_ls(
    key: Annotated[str | None, typer.Argument(help="the key, or its beginning, to explain")] = None,
    store: StoreFolder = None,
) -> None:
    """Say in words what the store holds, or what one key stands for."""
    from bench.cli import store as store_commands

    if key is None:
        store_commands.show(store)
    else:
        store_commands.explain(store, key)


@store_app.command("add")
def store_add(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="a store, or a folder of records as in results/")],
    store: StoreFolder = None,
) -> None:
    """Add the records of a folder after checking them, so that a run goes on from there."""
    from bench.cli import store as store_commands

    if not store_commands.add(store, folder):
        raise typer.Exit(1)


@store_app.command("verify")
def store_verify(store: StoreFolder = None) -> None:
    """Check every file; what is damaged is set aside and will be made again."""
    from bench.cli import store as store_commands

    if store_commands.verify(store):
        raise typer.Exit(1)


@store_app.command("diff")
def store_diff(first: str, second: str, store: StoreFolder = None) -> None:
    """Say which ingredient of two keys differs."""
    from bench.cli import store as store_commands

    store_commands.diff(store, first, second)


@store_app.command("gc")
def store_gc(
    keep: Annotated[list[str] | None, typer.Option("--keep", metavar="SUITE", help="keep what it needs")] = None,
    cap: Annotated[
        float | None, typer.Option(metavar="GB", help="free the least recently used above this size")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="do it; without, only say what would be freed")] = False,
    store: StoreFolder = None,
) -> None:
    """Free victims that no named suite needs, or the least recently used; records always stay."""
    from bench.cli import store as store_commands

    store_commands.collect(store, keep=keep or [], cap_gb=cap, apply=apply)
