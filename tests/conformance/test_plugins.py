"""Every registered plugin describes itself, and the tasks that are made here load; see ``test_attacks.py``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bench.conformance import REGISTRIES, checks
from bench.experiment.result_store import ResultStore

PLUGINS = [(kind, name) for kind, plugins in REGISTRIES.items() for name in plugins.names()]


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_metadata(kind: str, name: str) -> None:
    checks.describes_itself(REGISTRIES[kind].get(name))


@pytest.mark.parametrize("name", ["reviews", "questions", "chores", "sql", "shop", "entities"])
def test_generated_tasks(name: str) -> None:
    checks.loads(name)


def test_measures(world: Path, tmp_path: Path, store: ResultStore) -> None:
    questions = [
        {"question": "of what colour is snow ?", "choices": ["white", "black"], "answer": i % 2} for i in range(6)
    ]
    for folder, rows in (("mcq", questions), ("texts", [{"text": "the film was lovely"}, {"text": "a garden"}])):
        (tmp_path / folder).mkdir()
        pd.DataFrame(rows).to_parquet(tmp_path / folder / "test.parquet")
    pairs = [{"text": f"the film {i}", "text_pair": f"a film {i % 3}", "score": i % 4} for i in range(8)]
    (tmp_path / "pairs").mkdir()
    pd.DataFrame(pairs).to_parquet(tmp_path / "pairs" / "test.parquet")
    folders = {"questions": str(tmp_path / "mcq"), "texts": str(tmp_path / "texts")}
    similar = {"name": "similarity", "pairs": str(tmp_path / "pairs")}
    for number, entry in enumerate(("noise(examples=10)", {"name": "ability", **folders}, similar)):
        checks.measures(world, store, ResultStore(tmp_path / f"other {number}"), entry)
