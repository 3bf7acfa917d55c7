"""A store is made by what writes, known again by its id, and never taken for another one."""

from __future__ import annotations

import inspect
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import api, runner
from bench.cli import app as cli
from bench.cli import store as store_commands
from bench.errors import RequestError
from bench.store import Store, StoreGone, StoreMissing, StoreReplaced
from tests.faults.faultjobs import execute, grid
from tests.store.samples import fill, key, record, victim_recipe

COMMANDS = {
    name: command
    for group, commands in (
        ((), [command for commands in cli.COMMANDS.values() for command in commands]),
        (("store",), [command.callback for command in store_commands.app.registered_commands]),
    )
    for command in commands
    if command is not None and "store" in inspect.signature(command).parameters
    for name in [(*group, command.__name__.rstrip("_"))]
}
MAKES_ONE = {("run",), ("store", "add"), ("submit",)}
ARGUMENTS: dict[tuple[str, ...], list[str]] = {
    ("store", "ls"): [],
    ("store", "verify"): [],
    ("store", "gc"): [],
    ("store", "diff"): ["a", "b"],
    ("compare",): ["none", "e-pur", "--suite=quickstart"],
}
NEEDS_OUT = {("figure",), ("site",), ("publish",), ("collect",)}


def test_every_command_with_a_store_is_tried() -> None:
    assert {("status",), ("table",), ("export",), ("site",), ("store", "verify")} | MAKES_ONE <= COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - MAKES_ONE), ids=" ".join)
def test_what_reads_makes_no_store(
    name: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "mistyped"
    out = ["--out", str(tmp_path / "out")] if name in NEEDS_OUT else []
    arguments = [*name, *ARGUMENTS.get(name, ["quickstart"]), *out]
    for given, environment in (([f"--store={place}"], tmp_path / "other"), ([], place)):
        monkeypatch.setenv("DOORBENCH_STORE", str(environment))
        monkeypatch.setattr(sys, "argv", ["doorbench", *arguments, *given])
        with pytest.raises(SystemExit) as end:
            cli.main()
        errors = capsys.readouterr().err
        assert end.value.code == 2, errors
        assert errors.count("\n") == 1
        assert f"there is no store at {place}" in errors
        assert "doorbench run SUITE --store" in errors
        assert list(tmp_path.iterdir()) == []


def test_a_dry_run_and_python_make_none_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "store"
    monkeypatch.setattr(sys, "argv", ["doorbench", "run", "quickstart", "--dry-run", f"--store={place}"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    output = capsys.readouterr().out
    assert "done 0, failed 0, to do" in output
    assert f"store {place}, which the run will make" in output
    with pytest.raises(StoreMissing):
        api.records("quickstart", store=place)
    assert not place.exists()


def unplugged(store: Store) -> Path:
    """Take the store away; at its mount point somebody makes a new one."""
    away = store.root.rename(store.root.with_name("away"))
    Store(store.root)
    return away


WRITES: dict[str, Callable[[Store], Any]] = {
    "record": lambda store: store.put_record(key(1), record(1)),
    "failure": lambda store: store.put_failure(key(1), record(1)),
    "artifact": lambda store: store.put_artifact(key(1), victim_recipe(), fill),
    "lock": lambda store: store.lock(key(1)),
    "gc": lambda store: store.gc(keep=set(), apply=True),
}
READS: dict[str, Callable[[Store], Any]] = {
    "record": lambda store: store.record(key(1)),
    "failure": lambda store: store.failure(key(1)),
    "artifact": lambda store: store.artifact(key(1)),
    "scan": lambda store: store.keys_of_records(),
    "artifacts": lambda store: store.keys_of_artifacts(),
    "verify": lambda store: store.verify(),
}


@pytest.mark.parametrize("sent", [False, True], ids=["here", "in a worker"])
@pytest.mark.parametrize("use", [*WRITES.values(), *READS.values()], ids=[*WRITES, *(f"read {name}" for name in READS)])
def test_another_store_in_its_place_is_noticed(tmp_path: Path, use: Callable[[Store], Any], sent: bool) -> None:
    store = Store(tmp_path / "store")
    away = unplugged(store)
    seen = pickle.loads(pickle.dumps(store)) if sent else store
    with pytest.raises(StoreReplaced, match="another store lies at") as caught:
        use(seen)
    assert "\n" not in str(caught.value)
    assert not [path for path in store.root.rglob("*") if path.is_file() and path.name != "store.json"]
    for path in sorted(store.root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    store.root.rmdir()
    with pytest.raises(StoreGone):
        use(seen)
    away.rename(store.root)
    use(seen)


def test_a_copy_or_a_move_is_the_same_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.put_record(key(1), record(1))
    away = store.root.rename(tmp_path / "moved")
    away.rename(store.root)
    (store.root / "store.json").write_bytes((store.root / "store.json").read_bytes())
    assert store.record(key(2)) is None
    assert Store(store.root).id == store.id
    assert Store(tmp_path / "second").id != store.id


def test_a_store_of_former_days_has_no_id_and_is_told_from_a_new_one(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    (root / "store.json").write_text('{"format": 1}\n', encoding="utf-8")
    store = Store(root)
    assert store.id is None
    store.put_record(key(1), record(1))
    unplugged(store)
    with pytest.raises(StoreReplaced):
        store.put_record(key(2), record(2))
    for wrong in ({"format": 1, "id": 7}, {"format": 1, "id": []}):
        (root / "store.json").write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(RequestError, match="is damaged"):
            Store(root)


@pytest.mark.parametrize("engine", ["serial", "loky"])
def test_a_run_stops_at_once_where_its_store_is_another(tmp_path: Path, engine: str) -> None:
    store = Store(tmp_path / "store")

    def on_event(event: runner.Event) -> None:
        if event.kind == "done" and event.job and event.job.label == "v0c1":
            unplugged(store)

    options: dict[str, Any] = {"execute": execute, "engine": engine, "device": "cpu", "on_event": on_event}
    with pytest.raises(RequestError, match="another store lies at"):
        runner.run(grid(2, 4, pause=0.01), store=store, **options)
    assert not list((store.root / "records").rglob("*.json")), "nothing was written to the other one"
    assert len(Store(tmp_path / "away").keys_of_records()) >= 2
