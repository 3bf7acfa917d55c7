"""Artifacts: complete folders, checked by size always and by hash on first use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import RequestError
from bench.store import Store, StoreFull, artifacts
from bench.store.artifacts import MANIFEST
from bench.store.documents import unwrap, wrap
from tests.store.samples import fill, key, victim_recipe

WEIGHTS = "weights/model.safetensors"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def victim(store: Store) -> Path:
    return store.put_artifact(key(1), victim_recipe(), fill)


def flip(path: Path, place: int = -1) -> None:
    """Change one byte and leave size and times as they were, as a failing disk does."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def forget() -> None:
    """Be a process that has read nothing yet."""
    artifacts._verified.clear()


def test_an_artifact_comes_back(store: Store, victim: Path) -> None:
    assert store.artifact(key(1)) == victim
    assert sorted(store.artifact_hashes(key(1))) == ["triggered.parquet", "victim.json", WEIGHTS]
    assert store.artifact_recipe(key(1)) == victim_recipe()
    assert store.keys_of_artifacts() == {key(1)}
    assert store.artifact(key(2)) is None and store.artifact_recipe(key(2)) is None
    assert not list((store.root / "temp").iterdir())


def test_the_first_one_is_used(store: Store, victim: Path) -> None:
    def other(folder: Path) -> None:
        (folder / "other.json").write_text("{}")

    assert store.put_artifact(key(1), {}, other) == victim
    assert "other.json" not in store.artifact_hashes(key(1)) and not list((store.root / "temp").iterdir())


def test_a_failed_fill_leaves_nothing(store: Store) -> None:
    def break_off(folder: Path) -> None:
        fill(folder)
        raise KeyError("training went wrong")

    with pytest.raises(KeyError, match="training"):
        store.put_artifact(key(1), {}, break_off)
    assert store.artifact(key(1)) is None and not list((store.root / "temp").iterdir())


@pytest.mark.parametrize("error", [OSError(28, "full"), RuntimeError("I/O error: No space left (os error 28)")])
def test_a_full_disk_while_filling_is_said_in_one_line(store: Store, error: Exception) -> None:
    def run_out(folder: Path) -> None:
        raise error

    with pytest.raises(StoreFull, match="no space"):
        store.put_artifact(key(1), {}, run_out)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / WEIGHTS).unlink(),
        lambda path: (path / WEIGHTS).write_bytes(b""),
        lambda path: flip(path / WEIGHTS),
        lambda path: flip(path / "victim.json"),
        lambda path: flip(path / MANIFEST, 100),
        lambda path: (path / MANIFEST).unlink(),
        lambda path: ((path / "victim.json").unlink(), (path / "victim.json").symlink_to("/etc/passwd")),
    ],
)
def test_damage_is_seen_set_aside_and_made_again(store: Store, victim: Path, damage: Callable[[Path], object]) -> None:
    damage(victim)
    forget()
    assert store.artifact(key(1)) is None
    assert len(list((store.root / "damaged").iterdir())) == 1
    assert store.put_artifact(key(1), victim_recipe(), fill) == victim == store.artifact(key(1))


def test_hashes_are_taken_once_and_sizes_always(store: Store, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    hashed: list[Path] = []
    real = artifacts._hash
    monkeypatch.setattr(artifacts, "_hash", lambda path, **options: (hashed.append(path), real(path, **options))[1])
    for _ in range(3):
        store.artifact(key(1))
    assert len(hashed) == 3  # three files, once each
    os.utime(victim / WEIGHTS)  # somebody has touched it
    assert store.artifact(key(1)) is not None and len(hashed) == 6
    with (victim / WEIGHTS).open("ab") as file:
        file.write(b"x")
    assert store.artifact(key(1)) is None and len(hashed) == 6


def test_a_file_that_the_manifest_does_not_list_is_set_aside_unread(store: Store, victim: Path) -> None:
    poison = victim / "weights" / "pytorch_model.bin"
    poison.write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    (victim / "evil.json").symlink_to("/etc/passwd")
    (victim / "more").symlink_to("/etc")
    assert store.artifact(key(1)) == victim and store.verify().ok
    assert sorted(store.artifact_hashes(key(1))) == ["triggered.parquet", "victim.json", WEIGHTS]
    assert not poison.exists() and not (victim / "evil.json").is_symlink() and not (victim / "more").is_symlink()
    assert len(list((store.root / "damaged").iterdir())) == 3 and Path("/etc/passwd").exists()


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "x.pkl", "code.py", "noending", "a:b.json", MANIFEST]
)
def test_files_that_could_run_code_are_refused(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="valid are"):
        store.put_artifact(key(1), {}, lambda folder: (folder / name).write_bytes(b"x"))
    assert store.keys_of_artifacts() == set()


def test_links_and_pipes_are_refused(store: Store) -> None:
    for make in (
        lambda folder: (folder / "a.json").symlink_to("/etc/passwd"),
        lambda folder: (folder / "a").symlink_to("/etc"),
        lambda folder: os.mkfifo(folder / "a.json"),
    ):
        with pytest.raises(ValueError, match="plain file"):
            store.put_artifact(key(1), {}, make)


@pytest.mark.parametrize(
    "name", ["../../../outside.json", "/etc/hostname", "a/../../b.json", "a\\b.json", "", "./victim.json"]
)
def test_a_manifest_that_points_outside_is_refused(store: Store, victim: Path, name: str) -> None:
    manifest = unwrap((victim / MANIFEST).read_bytes(), key=key(1))
    manifest["files"][name] = {"size": 1, "sha256": "0" * 64}
    (victim / MANIFEST).write_bytes(wrap(manifest))
    assert store.artifact_recipe(key(1)) is None
    assert store.artifact(key(1)) is None and len(list((store.root / "damaged").iterdir())) == 1


def test_an_artifact_from_the_future_is_left_alone(store: Store, victim: Path) -> None:
    manifest = unwrap((victim / MANIFEST).read_bytes(), key=key(1))
    (victim / MANIFEST).write_bytes(wrap({**manifest, "schema": 2}))
    assert store.artifact(key(1)) is None and victim.exists() and store.verify().newer
    with pytest.raises(RequestError, match="newer"):
        store.put_artifact(key(1), {}, fill)


def test_an_artifact_under_the_wrong_key_is_not_used(store: Store, victim: Path) -> None:
    other = store.place("artifacts", key(2))
    other.parent.mkdir(exist_ok=True)
    victim.rename(other)
    assert store.artifact(key(2)) is None


def test_a_file_or_link_in_place_of_an_artifact_is_set_aside(store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = store.place("artifacts", key(1))
    path.parent.mkdir()
    for make in (lambda: path.write_text("x"), lambda: path.symlink_to(elsewhere), path.mkdir):
        make()
        assert store.artifact(key(1)) is None and not os.path.lexists(path)
    path.symlink_to(elsewhere)
    store.put_artifact(key(1), {}, fill)
    assert not path.is_symlink() and not list(elsewhere.iterdir())


def test_an_artifact_rebuilt_by_another_process_is_put_back(store: Store, victim: Path) -> None:
    store.set_aside(victim, "as it was when we read it", still_bad=lambda moved: store._is_bad(moved, key(1)))
    assert store.artifact(key(1)) == victim and not list((store.root / "damaged").iterdir())
