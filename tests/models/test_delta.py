"""Weights as a difference: exact to the bit, never larger than plain but for the index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench.models import delta

DTYPES = ["<f4", "<f2", "<f8", "<u2", "<i8", "|i1", "|b1", ">f4", "<c8", "<c16"]
Weights = dict[str, np.ndarray[Any, Any]]


def same(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and a[n].tobytes() == b[n].tobytes() for n in a
    )


def drift(base: Weights, seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    return {n: (v * (1 + 1e-4 * rng.standard_normal(v.shape))).astype(v.dtype) for n, v in base.items()}


@pytest.fixture
def base() -> Weights:
    rng = np.random.default_rng(1)
    return {n: rng.normal(0, 0.05, (200, 64)).astype(np.float32) for n in ("a", "b")}


@settings(max_examples=300)
@given(st.data())
def test_any_tensor_comes_back_bit_by_bit(data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    origin, value = (data.draw(hnp.arrays(dtype, shape)) for _ in range(2))
    if data.draw(st.booleans()):
        value = origin.copy()  # unchanged
    weights, base = {"w": value, "new": value}, {"w": origin, "unused": origin}
    assert same(delta.decode(delta.encode(weights, base), base), weights)


def test_the_odd_floats_survive() -> None:
    patterns = np.array([0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFC12345, 1, 0x80000001], np.uint32)
    value, base = np.tile(patterns, 200).view(np.float32), np.tile(patterns[::-1], 200).view(np.float32)
    stored = delta.encode({"w": value}, {"w": base})
    assert same(delta.decode(stored, {"w": base}), {"w": value})


def test_a_file_holds_it_all(base: Weights, tmp_path: Path) -> None:
    weights = {**drift(base), "head": np.ones(7, np.float32), "bf16": np.arange(9, dtype=np.uint16)}
    delta.save(tmp_path / "w.safetensors", weights, base)
    loaded = delta.load(tmp_path / "w.safetensors", base)
    assert same(loaded, weights)
    loaded["a"][0] = 1  # ours to change
    loaded["head"][0] = 2


def test_close_weights_take_half_and_unchanged_ones_nothing(base: Weights) -> None:
    plain = sum(value.nbytes for value in base.values())
    stored = delta.encode(drift(base), base)
    assert sum(value.nbytes for value in stored.values()) < 0.55 * plain
    assert set(delta.encode(base, base)) == {delta.INDEX}
    rows = {n: v.copy() for n, v in base.items()}
    rows["a"][:3] += 0.01
    assert sum(value.nbytes for value in delta.encode(rows, base).values()) < 0.05 * plain


def test_unrelated_weights_are_stored_plainly(base: Weights) -> None:
    rng = np.random.default_rng(2)
    weights = {"a": rng.integers(0, 2**32, 5000, np.uint32), "b": rng.random((3, 3)), "c": np.zeros((0, 4), np.float32)}
    stored = delta.encode(weights, {"a": rng.integers(0, 2**32, 5000, np.uint32), "b": rng.random((3, 4))})
    assert {"plain.a", "plain.b", "plain.c"} < set(stored)
    assert stored["plain.a"].nbytes == weights["a"].nbytes


def test_another_base_is_noticed(base: Weights) -> None:
    stored = delta.encode(drift(base), base)
    with pytest.raises(delta.DeltaError, match="base weights are not those"):
        delta.decode(stored, drift(base, 3))
    with pytest.raises(delta.DeltaError, match="missing"):
        delta.decode(stored, {})
    with pytest.raises(delta.DeltaError, match="instead of"):
        delta.decode(stored, {n: v.astype(np.float64) for n, v in base.items()})
    with pytest.raises(delta.DeltaError, match="not stored as a difference"):
        delta.decode(base, base)


def test_the_arguments_are_left_alone(base: Weights) -> None:
    weights = drift(base)
    before = [v.copy() for v in (*base.values(), *weights.values())]
    delta.decode(delta.encode(weights, base), base)
    assert all((a == b).all() for a, b in zip(before, (*base.values(), *weights.values()), strict=True))
