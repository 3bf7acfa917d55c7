"""Answers that took long are kept; a wrong one never is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.store import Store, answers
from tests.store.samples import key


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_an_answer_comes_back(store: Store) -> None:
    assert store.answer(key(1)) is None
    store.keep_answer(key(1), "a\nb ± \ud800")
    assert store.answer(key(1)) == "a\nb ± \ud800" and store.answer(key(2)) is None


def test_a_damaged_answer_is_none_and_is_made_again(store: Store) -> None:
    store.keep_answer(key(1), "text")
    (file,) = (store.root / "compact").iterdir()
    content = bytearray(file.read_bytes())
    content[-8] ^= 1
    file.write_bytes(content)
    assert store.answer(key(1)) is None
    store.keep_answer(key(1), "text")
    assert store.answer(key(1)) == "text"


def test_an_answer_under_another_name_is_none(store: Store) -> None:
    store.keep_answer(key(1), "text")
    (file,) = (store.root / "compact").iterdir()
    file.rename(file.with_name(f"{key(2)}.answer"))
    assert store.answer(key(2)) is None


def test_the_oldest_are_dropped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_ANSWERS", 3)
    for i in range(6):
        store.keep_answer(key(i), str(i))
    assert [store.answer(key(i)) for i in range(6)] == [None, None, None, "3", "4", "5"]


def test_a_store_that_cannot_be_written_keeps_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Store, path: Path, content: bytes) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "write_new", full)
    store.keep_answer(key(1), "text")
    assert store.answer(key(1)) is None
