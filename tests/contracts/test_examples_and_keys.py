"""Columns of text, nested samples, seeds and keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import keys, seeds
from bench.contracts.examples import Examples, Inputs, join, stratified_order
from tests.fakes import examples

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_key_does_not_depend_on_dict_order(recipe: dict[str, object]) -> None:
    backwards = dict(reversed(list(recipe.items())))
    assert keys.key_of(recipe) == keys.key_of(backwards)
    assert keys.key_of(json.loads(keys.canonical(recipe))) == keys.key_of(recipe)


@given(st.dictionaries(st.text(), JSON, min_size=1, max_size=4), st.text())
def test_every_ingredient_counts(recipe: dict[str, object], name: str) -> None:
    changed = {**recipe, name: ["something else", recipe.get(name)]}
    assert keys.key_of(changed) != keys.key_of(recipe)


SCALARS = st.none() | st.booleans() | st.integers() | st.text()


@given(st.dictionaries(st.text(), SCALARS, max_size=4), JSON)
def test_fields_that_are_canonical_already_make_the_same_key(recipe: dict[str, object], value: object) -> None:
    fields = {**recipe, "defense": value}
    assert keys.key_of_fields({name: keys.canonical(one) for name, one in fields.items()}) == keys.key_of(fields)


def test_key_refuses_what_is_not_json() -> None:
    for value in (float("nan"), float("inf"), object(), {1, 2}):
        with pytest.raises((ValueError, TypeError)):
            keys.key_of({"x": value})


def test_keys_and_seeds_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "from bench import keys, seeds; from bench.plugins import chain;"
        "print(keys.key_of(chain.chain('e-pur+fine-mixing(reserve_ratio=0.3)').recipe()), seeds.derive('a', 1))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (0, 1, 12345)
    }
    assert len(outputs) == 1


def test_seeds_separate_components() -> None:
    names = [("attack", "t", 0), ("attack", "t", 1), ("defense", "t", 0), ("attackt", 0), ("attack", "t0")]
    assert len({seeds.derive(*name) for name in names}) == len(names)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(0, 100))
def test_stratified_order_is_a_permutation_with_fair_prefixes(labels: list[int], seed: int) -> None:
    gold = np.array(labels)
    order = stratified_order(gold, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(gold)))
    for size in range(1, len(gold) + 1):
        for label in np.unique(gold):
            expected = size * np.mean(gold == label)
            assert abs(np.count_nonzero(gold[order[:size]] == label) - expected) <= len(np.unique(gold))


def test_put_take_and_join() -> None:
    rows = examples(6, pair=True)
    changed = rows.inputs.put([4, 1], Inputs(("a", "b"), ("c", "d")))
    assert (changed.texts[4], changed.pairs[4], changed.texts[1]) == ("a", "c", "b")
    assert changed.take([0, 2, 3, 5]) == rows.inputs.take([0, 2, 3, 5])
    assert join(rows.take([0, 1]), rows.take([2])).fingerprint() == rows.take([0, 1, 2]).fingerprint()
    with pytest.raises(ValueError, match="join"):
        join(rows, examples(2))


def test_fingerprint_sees_every_boundary_and_label() -> None:
    variants = [
        Examples(Inputs(("ab", "c")), np.array([0, 1])),
        Examples(Inputs(("a", "bc")), np.array([0, 1])),
        Examples(Inputs(("ab", "c")), np.array([1, 1])),
        Examples(Inputs(("ab", "c"), ("", "")), np.array([0, 1])),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)


def test_labels_cannot_be_written() -> None:
    source = np.array([0, 1])
    rows = Examples(Inputs(("a", "b")), source)
    source[0] = 1
    assert rows.labels[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        rows.labels[0] = 1
