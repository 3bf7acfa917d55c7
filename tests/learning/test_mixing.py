"""Mixing: exact counts, identities, determinism."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench import learning

SHAPES = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4)


def pair(shapes: list[tuple[int, int]], seed: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    before = {f"w{i}": torch.randn(shape, generator=generator) for i, shape in enumerate(shapes)}
    return {name: tensor + 1 + torch.rand(tensor.shape, generator=generator) for name, tensor in before.items()}, before


@given(SHAPES, st.floats(0, 1), st.integers(0, 99), st.sampled_from(["random", "drift"]))
def test_exactly_the_floor_is_kept(shapes: list[tuple[int, int]], ratio: float, seed: int, by: str) -> None:
    victim, before = pair(shapes, seed)
    mixed = learning.mix(victim, before, reserve_ratio=ratio, seed=seed, by=by)
    total = sum(tensor.numel() for tensor in victim.values())
    kept = sum(int((mixed[name] == victim[name]).sum()) for name in victim)
    assert kept == int(ratio * total)
    reset = sum(int((mixed[name] == before[name]).sum()) for name in victim)
    assert kept + reset == total
    again = learning.mix(victim, before, reserve_ratio=ratio, seed=seed, by=by)
    assert all(torch.equal(mixed[name], again[name]) for name in mixed)


@given(SHAPES, st.integers(0, 99), st.sampled_from(["random", "drift"]))
def test_one_is_the_victim_and_zero_is_the_pretrained(shapes: list[tuple[int, int]], seed: int, by: str) -> None:
    victim, before = pair(shapes, seed)
    for ratio, expected in ((1.0, victim), (0.0, before)):
        mixed = learning.mix(victim, before, reserve_ratio=ratio, seed=seed, by=by)
        assert all(torch.equal(mixed[name], expected[name]) for name in mixed)


def test_kept_sets_are_nested_and_uniform() -> None:
    victim, before = pair([(50, 40)], 0)
    smaller, larger = (
        learning.mix(victim, before, reserve_ratio=ratio, seed=3)["w0"] == victim["w0"] for ratio in (0.3, 0.35)
    )
    assert not (smaller & ~larger).any()
    counts = sum(
        (learning.mix(victim, before, reserve_ratio=0.3, seed=s)["w0"] == victim["w0"]).int() for s in range(200)
    )
    assert abs(float(counts.float().mean()) / 200 - 0.3) < 1e-6
    assert int(counts.min()) > 30
    assert int(counts.max()) < 90


def test_drift_keeps_what_moved_most() -> None:
    victim, before = pair([(10, 10)], 1)
    kept = learning.mix(victim, before, reserve_ratio=0.2, seed=0, by="drift")["w0"] == victim["w0"]
    moved = (victim["w0"] - before["w0"]).abs()
    assert moved[kept].min() >= moved[~kept].max()


def test_only_common_names_are_mixed_and_inputs_stay() -> None:
    victim, before = pair([(4, 4), (4, 4)], 2)
    copy = {name: tensor.clone() for name, tensor in victim.items()}
    mixed = learning.mix(victim, {"w0": before["w0"]}, reserve_ratio=0.0, seed=0)
    assert set(mixed) == {"w0"}
    assert all(torch.equal(victim[name], copy[name]) for name in victim)


def test_importing_the_room_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import sys; from bench import learning; from bench.plugins import registry;"
    code += "registry.attacks.names(); registry.defenses.names();"
    code += "assert 'torch' not in sys.modules; learning.mix; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = learning.nothing
