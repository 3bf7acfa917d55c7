"""The commands that show what records say: tables, figures, claims, the site, published folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import terminal
from bench.cli.options import (
    AnyLibraries,
    AsJson,
    Device,
    Out,
    OutFolder,
    Profile,
    Settings,
    StoreFolder,
    SuiteName,
    SuiteOrFolder,
    Yes,
    a_folder,
    joined,
    write_or_print,
)
from bench.cli.terminal import say

if TYPE_CHECKING:
    from bench.suites.suite import Suite


def collect(
    suite: SuiteName,
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    out: OutFolder = None,
    yes: Yes = False,
) -> None:
    """Print the table and draw the figures from whatever records exist, also while others run."""
    from bench import session
    from bench.cli import printing

    for opened, inner in session.in_folders(suite, joined(settings, profile), store, yes=yes):
        printing.report(opened, None if out is None else out / inner)


def export(
    suite: SuiteOrFolder,
    format: Annotated[str, typer.Option(metavar="parquet|csv|jsonl", help="of the rows")] = "csv",
    out: Out = None,
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    yes: Yes = False,
) -> None:
    """Write one row per cell."""
    from bench import session

    text = session.shown_alone(suite, joined(settings, profile), store, yes=yes).export(format, out)
    if text is not None:
        terminal.write(text)


def table(
    suite: SuiteOrFolder,
    format: Annotated[str, typer.Option(metavar="terminal|md|csv|latex|html", help="of the table")] = "terminal",
    explain: Annotated[str | None, typer.Option(metavar="CELL", help="say how a number came about")] = None,
    out: Out = None,
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    any_libraries: AnyLibraries = False,
    yes: Yes = False,
) -> None:
    """Print the table of a suite from whatever records exist."""
    from bench import session
    from bench.cli import printing

    opened = session.shown_alone(suite, joined(settings, profile), store, yes=yes, any_libraries=any_libraries)
    if explain is not None:
        say(opened.explain(explain))
    elif format == "terminal" and out is None:
        printing.table(opened)
    else:
        write_or_print(opened.table(format), out)


def responses(suite: SuiteName, settings: Settings = None, profile: Profile = None, store: StoreFolder = None) -> None:
    """Show what models that write said to one prompt, without and with the trigger, before and after each defense."""
    from bench.cli import printing
    from bench.session import Session

    opened = Session.open(suite, joined(settings, profile), store)
    if not printing.responses(opened):
        lacks = "the store has no victim that writes and was judged; records alone have no prompts"
        say(f"{opened.name}: {lacks}", err=True)


def figure(
    suite: SuiteName,
    out: Annotated[Path, typer.Option("--out", callback=a_folder, help="folder for PNG and PDF")],
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    any_libraries: AnyLibraries = False,
    yes: Yes = False,
) -> None:
    """Draw the figures of a suite as PNG and PDF."""
    from bench import session

    for opened, inner in session.in_folders(
        suite, joined(settings, profile), store, yes=yes, any_libraries=any_libraries
    ):
        drawn = opened.figures(out / inner)
        for path in drawn:
            say(str(path))
        if not drawn:
            say(f"{opened.plan.suite.name}: no figure, as no cell that one shows is done yet", err=True)


def claims(
    suite: SuiteOrFolder,
    file: Annotated[
        Path | None, typer.Option("--claims", metavar="FILE", help="your own, as YAML; default: the paper's")
    ] = None,
    as_json: AsJson = False,
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    any_libraries: AnyLibraries = False,
    yes: Yes = False,
) -> None:
    """Check claims, the paper's or your own, against the records of a suite."""
    from bench import session
    from bench.cli import printing

    opened = session.shown(suite, joined(settings, profile), store, yes=yes, any_libraries=any_libraries)
    printing.claims(opened, as_json=as_json, file=file)


def compare(
    first: Annotated[str, typer.Argument(metavar="DEFENSE", help="as the suite spells it; none is the victim")],
    second: Annotated[str, typer.Argument(metavar="DEFENSE", help="what it is compared with")],
    suite: Annotated[
        str, typer.Option("--suite", help="a name, a YAML file, a folder with records, or last: the last run")
    ] = "last",
    as_json: AsJson = False,
    out: Annotated[
        Path | None, typer.Option("--out", callback=a_folder, help="folder for a figure, as PNG and PDF")
    ] = None,
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    any_libraries: AnyLibraries = False,
) -> None:
    """Compare two defenses on the same cells: the difference with its interval, over all attacks and for each."""
    from bench import session
    from bench.cli import printing

    opened = session.shown(suite, joined(settings, profile), store, any_libraries=any_libraries)
    printing.comparison(opened, first, second, as_json=as_json, out=out)


def stealth(
    suite: SuiteName,
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    causal_lm: Annotated[
        str | None,
        typer.Option("--causal-lm", help="also measure perplexity with this model: a folder or <Hub name>@<commit>"),
    ] = None,
    out: Out = None,
    yes: Yes = False,
) -> None:
    """Measure how visible the triggers of a suite's victims are, as a Markdown table."""
    from bench import session
    from bench.analysis import stealth

    opened = session.Session.open(suite, joined(settings, profile), store, yes=yes)
    write_or_print(stealth.markdown(stealth.survey(opened.plan, opened.store, causal_lm=causal_lm)), out)


def site(
    suites: Annotated[list[str], typer.Argument(metavar="SUITE...", help="suites, or folders that hold records")],
    out: Annotated[Path, typer.Option("--out", callback=a_folder, help="folder of the site")],
    address: Annotated[
        str, typer.Option(metavar="URL", help="where a host will show it; makes a sitemap and full previews")
    ] = "",
    store: StoreFolder = None,
) -> None:
    """Write the leaderboard as static files that open from disk, and that any host can show."""
    from bench import session

    say(str(session.build_site(suites, store, out=out, address=address)))


def publish(
    suite: SuiteName,
    out: Annotated[Path, typer.Option("--out", callback=a_folder, help="folder in results/")],
    settings: Settings = None,
    profile: Profile = None,
    store: StoreFolder = None,
    any_libraries: AnyLibraries = False,
    mixed: Annotated[bool, typer.Option("--mixed", help="although a column mixes machines or trainings")] = False,
    yes: Yes = False,
) -> None:
    """Write records, tables and figures of a suite into a folder, as results/ holds them."""
    from bench import session
    from bench.results import publish

    for opened, inner in session.in_folders(
        suite, joined(settings, profile), store, yes=yes, any_libraries=any_libraries
    ):
        for path in publish.publish(opened, out / inner, mixed=mixed):
            say(str(path))


def submit(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="a folder of records, or a whole store")],
    check: Annotated[bool, typer.Option("--check", help="validate the records")] = False,
    rerun: Annotated[int, typer.Option(metavar="N", min=0, help="run N random cells again and compare")] = 0,
    suite: Annotated[str | None, typer.Option(help="of the records; default: suite.yaml in the folder")] = None,
    store: Annotated[Path | None, typer.Option("--store", help="keep what --rerun makes here")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Check records before they are shared: keys, metrics against predictions, what is missing; run some again."""
    import json
    from dataclasses import asdict

    from bench.errors import RequestError
    from bench.results import submission
    from bench.store.words import counted
    from bench.suites import suite as suites

    if not (check or rerun):
        raise RequestError("say `doorbench submit --check FOLDER`; how to send a checked folder is in docs/submit.md.")
    meant = None if suite is None else suites.load(suite)
    if rerun:
        _rerun(folder, rerun, meant, store, device)
        return
    with _offline():
        checked = submission.check(folder, meant)
    if as_json:
        say(json.dumps(asdict(checked), indent=1))
    else:
        for problem in checked.problems:
            say(str(problem))
        for note in checked.notes:
            say(f"note: {note}")
        if checked.missing:
            say(f"missing: {checked.missing}")
        say(f"{counted(checked.records, 'record')}, {counted(len(checked.problems), 'problem')}")
    if checked.problems or checked.missing:
        raise typer.Exit(1)


@contextmanager
def _offline() -> Iterator[None]:
    """Let nothing be fetched: a check compares with the data and models that are here."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    before = {name: value for name in offline if (value := os.environ.get(name)) is not None}
    os.environ.update(offline)
    try:
        yield
    finally:
        for name in offline:
            del os.environ[name]
        os.environ.update(before)


def _rerun(folder: Path, count: int, suite: Suite | None, store: Path | None, device: str) -> None:
    from bench import runner
    from bench.results import rerun
    from bench.store.words import counted

    again = rerun.prepare(folder, count=count, suite=suite)
    with runner.progress(again.jobs) as on_event:
        compared = again.run(store, device=device, on_event=on_event)
    for one in compared:
        say(str(one))
    differ = sum(not one.agrees for one in compared)
    say(f"{counted(len(compared), 'cell')} run again, {differ} differ by more than {rerun.TOLERANCE:g} points")
    if differ:
        raise typer.Exit(1)
