"""The commands that run a suite: ``run``, ``retry`` and ``status``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import Device, Profile, Settings, StoreFolder, SuiteName, Yes, joined, number
from bench.cli.terminal import say

Workers = Annotated[int | None, typer.Option(min=1, help="processes; default: one per GPU slot, or one")]
Slots = Annotated[int, typer.Option(min=1, help="processes that share a GPU")]
Engine = Annotated[str, typer.Option(metavar="serial|loky|dask", help="this process, processes here, or a cluster")]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS|FILE", help="for dask: tcp://host:8786 or a cluster file, docs/cluster.md"),
]
TimeLimit = Annotated[float | None, typer.Option(min=1, callback=number, help="seconds that a cell may take")]
Report = Annotated[bool, typer.Option(help="end with the table and the figures")]


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
    report: Report = True,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="also write the suite, with all settings, as YAML")
    ] = None,
    yes: Yes = False,
) -> None:
    """Run a suite; what is in the store already is not done again. Later commands may call it last."""
    if save is not None:
        _save(suite, joined(settings, profile), store, save)
    if dry_run:
        _forecast(suite, joined(settings, profile), store, yes, workers=workers, device=device)
        return
    options: dict[str, Any] = dict(workers=workers, slots_per_gpu=slots_per_gpu, device=device, engine=engine)
    options |= dict(scheduler=scheduler, time_limit=time_limit, again=False)
    _run(suite, joined(settings, profile), store, options, report=report, yes=yes)


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
    report: Report = True,
    yes: Yes = False,
) -> None:
    """Run the failed cells of a suite again, and whatever is still missing."""
    options: dict[str, Any] = dict(workers=workers, slots_per_gpu=slots_per_gpu, device=device, engine=engine)
    options |= dict(scheduler=scheduler, time_limit=time_limit, again=True)
    _run(suite, joined(settings, profile), store, options, report=report, yes=yes)


def status(
    suite: SuiteName, settings: Settings = None, profile: Profile = None, store: StoreFolder = None, yes: Yes = False
) -> None:
    """Say what is done, running, waiting and failed, from the store alone."""
    from bench import session
    from bench.cli import printing

    for opened in session.Session.open_all(suite, joined(settings, profile), store, yes=yes):
        printing.status(opened)


def _save(suite: str, settings: list[str], store: Path | None, path: Path) -> None:
    from bench import session
    from bench.store import outputs
    from bench.suites import suite as suites

    name, settings = session.recalled(suite, settings, store)
    saved = suites.renamed(suites.load(name, settings), path, settings)
    outputs.write(path, suites.in_yaml(saved))
    say(f"saved to {path} as the suite {saved.name}; use it like a built-in suite: doorbench table {path}")


def _forecast(suite: str, settings: list[str], store: Path | None, yes: bool, **options: Any) -> None:
    from bench import session

    with session.before_a_run(suite, settings, store, yes=yes) as (sessions, place):
        for opened in sessions:
            for line in opened.forecast(**options):
                say(line)
        say(f"store {place}")


def _run(
    suite: str, settings: list[str], store: Path | None, options: dict[str, Any], *, report: bool, yes: bool
) -> None:
    from bench import session
    from bench.cli import printing
    from bench.store.words import counted

    failed = 0
    sessions = session.Session.open_all(suite, settings, store, yes=yes, create=not options["again"])
    with session.remembering(suite, settings, store):
        for opened in sessions:
            failed += printing.run(opened, **options).failed
            if report:
                printing.report(opened)
    if failed:
        same = shlex.join([suite, *(f"--set={text}" for text in settings), *([f"--store={store}"] if store else [])])
        say(f"{counted(failed, 'job')} failed; see `doorbench status {same}`, then `doorbench retry {same}`.", err=True)
        raise typer.Exit(1)
