"""Outputs are written beside their place: whatever fails at whatever moment, what was there before is as it was."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.errors import RequestError
from bench.store import outputs
from bench.store.outputs import NotWritten

CALLS = ["open", "write", "fsync", "replace", "mkdir", "rename"]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int], None]]:
    """Let the n-th system call of a kind fail as on a full disk."""
    left = [0]

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(28, os.strerror(28), str(arguments[0]))
            return real(*arguments, **options)

        return call

    def prepare(call: str, number: int) -> None:
        left[0] = number
        name, owner = ("write_bytes", Path) if call == "write" else (call, os)
        monkeypatch.setattr(owner, name, failing(getattr(owner, name)))

    yield prepare


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def one(folder: Path) -> None:
    outputs.write(folder / "a.txt", "new a")


def three_together(folder: Path) -> None:
    with outputs.all_or_none():
        outputs.write(folder / "a.txt", "new a")
        outputs.make_folder(folder / "in" / "side")
        outputs.write(folder / "in" / "side" / "b.bin", b"new b")
        with outputs.beside(folder / "c.txt") as file:
            file.write_bytes(b"new c")


def whole_folder(folder: Path) -> None:
    with outputs.folder_beside(folder / "site") as made:
        (made / "data").mkdir()
        (made / "data" / "index.html").write_bytes(b"new page")


@pytest.mark.parametrize("write", [one, three_together, whole_folder])
@pytest.mark.parametrize("call", CALLS)
def test_whatever_fails_good_files_stay(
    tmp_path: Path, fail: Callable[[str, int], None], monkeypatch: pytest.MonkeyPatch, write: Any, call: str
) -> None:
    (tmp_path / "in" / "side").mkdir(parents=True)
    (tmp_path / "site").mkdir()
    for name in ("a.txt", "in/side/b.bin", "c.txt", "site/old.html"):
        (tmp_path / name).write_bytes(b"old " + name.encode())
    before = contents(tmp_path)
    for number in range(1, 40):
        with monkeypatch.context():
            fail(call, number)
            try:
                write(tmp_path)
            except NotWritten as error:
                assert str(error).endswith("cannot be written: no space is left; what was there before is as it was.")
                if call == "replace" and write is three_together and number > 1:
                    break  # renaming needs no space; what else breaks it may come between two files
            else:
                break
            finally:
                monkeypatch.undo()
        assert contents(tmp_path) == before
    else:
        pytest.fail("the calls never ended")
    if call != "replace" or write is not three_together:
        assert contents(tmp_path) != before
    if call != "open":  # which removing the old folder needs as well
        assert not list(tmp_path.rglob(".*"))


def test_an_error_that_is_not_about_the_file_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    for make in (outputs.beside, outputs.folder_beside):
        with pytest.raises(ValueError, match="mine"), make(tmp_path / "a.txt"):
            raise ValueError("mine")
    with pytest.raises(FileNotFoundError), outputs.folder_beside(tmp_path / "folder"):
        (tmp_path / "elsewhere").read_text()
    with pytest.raises(KeyboardInterrupt), outputs.all_or_none():
        outputs.write(tmp_path / "a.txt", "new")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"a.txt": b"old"}


def test_what_a_path_may_be(tmp_path: Path) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    outputs.write(link, "new")
    assert link.is_symlink()
    assert (real.read_text(), stat.S_IMODE(real.stat().st_mode)) == ("new", 0o640)
    (tmp_path / "dangling").symlink_to(tmp_path / "target")
    outputs.write(tmp_path / "dangling", "new")
    assert (tmp_path / "target").read_text() == "new"
    outputs.write(Path("/dev/null"), "nothing")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    outputs.write(pipe, "through the pipe")
    reader.join(10)
    assert read == ["through the pipe"]
    reading, writing = os.pipe()  # as /dev/stdout is before a pipe
    outputs.refuse_file(Path(f"/dev/fd/{writing}"))
    outputs.write(Path(f"/dev/fd/{writing}"), "through a number")
    assert os.read(reading, 99) == b"through a number"
    for handle in (reading, writing):
        os.close(handle)
    long = tmp_path / ("x" * 250 + ".txt")
    outputs.write(long, "new")
    assert long.read_text() == "new"


@pytest.mark.parametrize("path", ["folder", "file/a.txt", "x" * 300, "loop", "nul\0"])
def test_a_path_that_cannot_be_is_one_line(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(RequestError) as caught:
        outputs.write(tmp_path / path, "text")
    assert "\n" not in str(caught.value)
    if path not in ("folder", "missing/a.txt"):
        with pytest.raises(RequestError), outputs.folder_beside(tmp_path / path / "x"):
            pass


def test_threads_do_not_mix_their_outputs(tmp_path: Path) -> None:
    def alone() -> None:
        outputs.write(tmp_path / "other.txt", "mine")

    with outputs.all_or_none():
        outputs.write(tmp_path / "a.txt", "a")
        other = threading.Thread(target=alone)
        other.start()
        other.join()
        assert [path.name for path in tmp_path.glob("[!.]*")] == ["other.txt"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "other.txt"}
