"""One store for the checks of a file, so that each victim is trained once."""

from __future__ import annotations

import pytest

from bench.experiment.result_store import ResultStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    return ResultStore(tmp_path_factory.mktemp("store"))
