"""Records of every earlier version still load, and say what they said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.experiment import predictions
from bench.store import Store
from bench.store.documents import unwrap

FOLDER = Path(__file__).parents[1] / "historic_records"
FILES = sorted(FOLDER.glob("v*/*.json"))
FIELDS = {
    1: [
        "schema",
        "key",
        "kind",
        "role",
        "status",
        "error",
        "cell",
        "recipe",
        "victim_key",
        "metrics",
        "predictions",
        "notes",
        "seconds",
        "environment",
    ]  # noqa: E501
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that an earlier version has left behind."""
    store = Store(tmp_path_factory.mktemp("historic") / "store")
    for file in FILES:
        document = json.loads(file.read_bytes())["record"]
        path = store.place("failures" if document["status"] == "failed" else "records", document["key"], ".json")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file.read_bytes())
    return store


def read(file: Path) -> dict[str, Any]:
    return unwrap(file.read_bytes(), key=json.loads(file.read_bytes())["record"]["key"])


def test_none_has_been_dropped() -> None:
    assert {f"{file.parent.name}/{file.stem}" for file in FILES} >= {
        f"v1/{name}" for name in ["fine-mixing", "chain", "victim", "floor", "reference", "not-applicable", "failed"]
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_it_loads(file: Path, store: Store) -> None:
    document = read(file)
    assert document["schema"] == int(file.parent.name[1:])
    if document["status"] == "failed":
        assert store.failure(document["key"]) == document and document["error"]
        return
    assert store.record(document["key"]) == document
    assert set(FIELDS[document["schema"]]) <= set(document)
    assert document["status"] in store.explain(document["key"]) and document["cell"]["attack"] in store.explain(
        document["key"]
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_its_predictions_give_its_metrics(file: Path) -> None:
    document = read(file)
    if document["status"] != "done":
        return
    clean = predictions.decode(document["predictions"]["clean"])
    right = (clean.labels == clean.gold) & ~clean.rejected
    assert 100 * right.mean() == pytest.approx(document["metrics"]["acc"])
    if document["metrics"]["asr"] is not None:
        triggered = predictions.decode(document["predictions"]["triggered"])
        hit = (triggered.labels == document["cell"]["target"]) & ~triggered.rejected
        assert 100 * hit.mean() == pytest.approx(document["metrics"]["asr"])


def test_they_make_a_table_and_pass_a_check(store: Store) -> None:
    report = store.verify()
    assert report.ok and not report.newer and report.checked["records"] == len(FILES) - 1
    kept = store.summaries()
    measured = zip(kept.values("cell"), kept.values("metrics"), strict=True)
    assert (
        max(metrics["asr"] or 0 for cell, metrics in measured if metrics and cell["defense"] == "fine-mixing") == 100.0
    )
    assert sorted(set(kept.values("status"))) == ["done", "n/a"]
