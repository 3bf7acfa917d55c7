"""A small world for tests: three tasks on disk and a tiny encoder, made once in a session."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from bench.conformance.world import build
from bench.conformance.world import rows as rows
from tests import few_words

if threading.current_thread() is threading.main_thread():  # started in the background, Ctrl-C would be ignored below us
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("any machine", deadline=None)  # an example takes longer where others work as well
settings.load_profile("any machine")
few_words.install()
FOLDER = Path(__file__).parent
REAL_DATA = os.environ.get("DOORBENCH_DATA")  # before the fixture below points it elsewhere


@pytest.fixture
def real_data() -> Path:
    """The folder with real data sets; tests that need it are skipped where DOORBENCH_DATA is not set."""
    assert REAL_DATA is not None
    return Path(REAL_DATA)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the tasks ``local/single``, ``local/pair``, ``local/four`` and the tiny model ``tiny-bert``."""
    folder = build(tmp_path_factory.mktemp("world"))
    before = os.environ.get("DOORBENCH_DATA")
    os.environ["DOORBENCH_DATA"] = str(folder)
    yield folder
    if before is None:
        del os.environ["DOORBENCH_DATA"]
    else:
        os.environ["DOORBENCH_DATA"] = before


LONGEST = (
    "test_docs.py",
    "conformance/test_attacks.py",
    "conformance/test_defenses.py",
    "browser/test_pages.py",
    "cli/test_cli.py",
    "scaffold/test_scaffold.py",
    "test_notebook.py",
    "faults/test_any_file.py",
    "faults/test_runner_faults.py",
    "checkpoints/test_generators.py",
    "checkpoints/test_purify.py",
    "checkpoints/test_inspect_and_attack.py",
    "performance/test_large_stores.py",
    "performance/test_learning.py",
    "performance/test_generators.py",
    "models/test_soundness.py",
    "runner/test_refused_workers.py",
    "report/test_site.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that processes which share the files end at about the same time."""
    rank = {FOLDER / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
