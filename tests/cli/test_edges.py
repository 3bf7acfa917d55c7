"""Where the command line ends: outputs that cannot be written, terminals that cannot show everything, Ctrl-C."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pytest
from rich.table import Table
from rich.text import Text

from bench.cli import app as cli
from bench.cli import terminal
from bench.errors import RequestError, plain
from bench.report.rows import frames
from bench.store import outputs

FILES = {
    "table": ("nosuch",),
    "export": ("nosuch",),
    "stealth": ("nosuch",),
    "inspect": ("--model", "nosuch"),
    "judge": ("--model", "nosuch", "--clean", "nosuch.csv"),
}
FOLDERS = {
    "figure": ("nosuch",),
    "collect": ("nosuch",),
    "publish": ("nosuch",),
    "site": ("nosuch",),
    "new": ("task", "mine"),
    "purify": ("--model", "nosuch", "--clean", "nosuch.csv"),
    "attack": ("badword", "--task", "reviews"),
    "compare": ("none", "few-shot", "--suite", "nosuch"),
    "rebuild": ("nosuch", "0123456789ab"),
}
CHECKS_ITSELF = {"purify", "attack"}  # they make their folder beside its place before they do anything else

Refused = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Refused]:
    """Give a command that must be refused; return the one line that it says."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["doorbench", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        output = capsys.readouterr()
        assert end.value.code == 2 and output.err.count("\n") == 1, output
        return output.err

    yield run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "quickstart", "--workers", "0"], "'--workers'"),
        (["run", "quickstart", "--time-limit", "nan"], "'--time-limit'"),
        (["store", "gc", "--cap", "nan"], "See doorbench store gc --help."),
        (["run", "quickstart", "--worker", "1"], "--workers"),
        (["run"], "Missing argument 'SUITE'. See doorbench run --help."),
        (["rnu"], "No such command 'rnu'"),
        (["--nosuch"], "No such option: --nosuch. See doorbench --help."),
    ],
)
def test_what_cannot_be_parsed_is_one_line_as_well(refused: Refused, arguments: list[str], words: str) -> None:
    said = refused(*arguments)
    assert said.startswith("doorbench: ") and words in said


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command with its options."""
    waiting: list[tuple[str, Any]] = [("", cli.command_line())]
    while waiting:
        name, command = waiting.pop()
        inner = getattr(command, "commands", {})
        waiting += [(f"{name} {inside}".strip(), one) for inside, one in inner.items()]
        if not inner:
            yield name, command


def test_every_output_of_every_command_is_known_here() -> None:
    options = {name: p for name, command in commands() for p in command.params if "--out" in p.opts}
    assert set(options) == FILES.keys() | FOLDERS.keys()
    assert all(option.callback for name, option in options.items() if name not in CHECKS_ITSELF)


def test_every_number_of_every_command_is_finite() -> None:
    functions = [command.callback for _, command in commands()]
    hints = [hint for one in functions for hint in get_type_hints(one, include_extras=True).values()]
    options = [hint for hint in hints if get_origin(hint) is Annotated]
    floats = [hint for hint in options if float in (get_args(hint)[0], *get_args(get_args(hint)[0]))]
    assert len(floats) >= 5 and all(hint.__metadata__[0].callback for hint in floats)


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_a_number_that_no_bound_stops(monkeypatch: pytest.MonkeyPatch, capsys: Any, value: str) -> None:
    for command in (
        ("store", "gc", "--cap", value),
        ("run", "quickstart", "--time-limit", value),
        ("purify", "--model", "m", "--clean", "c", "--out", "o", "--tolerance", value),
        ("attack", "badword", "--learning-rate", value),
    ):
        monkeypatch.setattr(sys, "argv", ["doorbench", *command])
        with pytest.raises(SystemExit) as end:
            cli.main()
        errors = capsys.readouterr().err
        assert end.value.code == 2 and command[-2] in errors and "Traceback" not in errors


@pytest.mark.parametrize("command", FILES)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(
    refused: Refused, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path, tmp_path / "file" / "x.json", tmp_path / ("x" * 300), tmp_path / "a" / ("x" * 300) / "y"):
        assert (
            "cannot be written" in (refusal := refused(command, *FILES[command], "--out", str(out)))
            or "folder" in refusal
        )
        assert "nosuch" not in refusal
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(
    refused: Refused, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "x", tmp_path / ("x" * 300)):
        refusal = refused(command, *FOLDERS[command], "--out", str(out))
        assert "cannot be written" in refusal or "exists already" in refusal
        assert "nosuch" not in refusal
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_folders_of_an_output_are_made(tmp_path: Path) -> None:
    outputs.refuse_file(tmp_path / "a" / "b" / "c.txt")
    assert not list(tmp_path.iterdir())
    outputs.write(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"
    outputs.refuse_file(Path("/dev/null"))


NASTY = "a\x1b[31mred\x07\x9b2J\u202eback\ud800\r\x00 √–é\tend\n"


def test_what_a_terminal_would_obey_is_spelt_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert plain(NASTY) == "a\\x1b[31mred\\x07\\x9b2J\\u202eback\\ud800\\r\\x00 √–é\tend\n"
    terminal.say(NASTY)
    page = io.StringIO()
    shown = terminal.console(file=page, width=100)
    table = Table("name")
    table.add_row(Text(NASTY))
    for what in (NASTY, Text(NASTY), table):
        shown.print(what, markup=False)
    for text in (capsys.readouterr().out, page.getvalue()):
        assert "red" in text and not set(text) & set("\x1b\x07\x9b\u202e\ud800\r\x00")


def test_an_error_cannot_control_the_terminal(refused: Refused) -> None:
    refusal = refused("describe", "\x1b[2Jgone\x07")
    assert "\x1b" not in refusal and "\\x1b[2Jgone\\x07" in refusal


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_stream_that_cannot_write_everything(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.prepare()
    table = Table("√ – ≈")
    table.add_row("火 \ud800")
    terminal.console(width=40).print(table)
    terminal.say("√ 火")
    stream.flush()
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO) and raw.getvalue().decode(encoding)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EOFError("x"), OSError(28, "No space left on device", "f")])
def test_what_ends_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("bench.cli.listing.listing", fail)
    monkeypatch.setattr(sys, "argv", ["doorbench", "list", "tasks"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and errors.startswith("doorbench: ")
    assert end.value.code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert ("interrupted; nothing half-written is left" in errors) == isinstance(error, KeyboardInterrupt)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_ended_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, number: int
) -> None:
    """A signal in the middle of purifying, while its folder is being written."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def halfway(path: Path) -> None:
        assert len(list(tmp_path.iterdir())) == 1, "the folder that will be renamed"
        os.kill(os.getpid(), number)

    monkeypatch.setattr("bench.checkpoints.purify.opened", halfway)
    command = ["purify", "--model", "m", "--clean", "c.csv", "--defense", "wanda", "--out", "out"]
    monkeypatch.setattr(sys, "argv", ["doorbench", *command])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "doorbench: interrupted; nothing half-written is left\n"
    assert list(tmp_path.iterdir()) == [] and signal.getsignal(signal.SIGTERM) == before


def test_an_output_that_the_shell_closed_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    terminal.prepare()
    terminal.say("to nobody")
    terminal.write("to nobody")
    terminal.say("to nobody", err=True)


def test_a_worker_that_has_nothing_to_do_ends_without_a_word() -> None:
    program = (
        "import os, signal; from bench.runner import worker; "
        "worker.pin('w', 'cpu', 1, os.getppid()); os.kill(os.getpid(), signal.SIGTERM); signal.pause()"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and os.getpid()


FORMULAS = ["=1+1", "+SUM(A1)", "-cmd", "@x", "\t=1", "\r=1"]
HARMLESS = ["a=b", "-1.5", "+3", "-1e-5", "", "–", "x\n=1"]


def test_no_cell_of_a_csv_file_is_a_formula() -> None:
    table = pd.DataFrame({"text": FORMULAS + HARMLESS[:1], "number": np.arange(7.0) - 3, "empty": [None] * 7})
    text = frames.export(table, format="csv")
    assert text is not None
    assert "\n'=1+1,-3.0," in text and "\n'+SUM(A1),-2.0," in text and "\na=b,3.0," in text
    assert all(frames.no_formula(cell) == f"'{cell}" for cell in FORMULAS)
    assert [frames.no_formula(cell) for cell in [*HARMLESS, -1.5, None]] == [*HARMLESS, -1.5, None]
    assert "'" not in str(frames.export(table, format="jsonl")), "other formats hold no formulas"


def test_a_request_error_is_one_line(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RequestError("two\nlines\r\nand more")

    monkeypatch.setattr("bench.cli.listing.listing", fail)
    assert refused("list", "tasks") == "doorbench: two lines and more\n"
