"""Two ways of doing the same work, measured in turn in one run, so that a machine that drifts slows both."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Way = Callable[[], Any]


def seconds(way: Way) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def matrix_rate() -> float:
    """Return the rate of a large matrix product in the machine's best arithmetic: floating-point operations a second.

    Without bf16 in hardware its product is emulated and takes minutes, so it is not tried there.
    """
    import torch

    from bench.learning.hardware import native_bf16

    dtype = torch.bfloat16 if native_bf16("cpu") else torch.float32
    a, b = (torch.randn(2048, 2048, dtype=dtype) for _ in range(2))
    return 2 * 2048**3 / min(seconds(lambda: a @ b) for _ in range(6))


def copy_rate(scalars: int) -> float:
    """Return bytes read and written a second while copying float32 scalars."""
    import torch

    source, target = torch.randn(scalars), torch.empty(scalars)
    return 8 * scalars / min(seconds(lambda: target.copy_(source)) for _ in range(6))


def compare(
    benchmark: Any,
    *,
    work: str,
    ours: Way,
    others: dict[str, Way],
    rounds: int = 3,
    examples: int | None = None,
    limit: str = "",
    used: float = 0.0,
    rate: Callable[[], float] | None = None,
) -> None:
    """Time ``ours`` with pytest-benchmark and, before each of its rounds, the other ways.

    Args:
        benchmark: pytest-benchmark's fixture; ``tests.performance.table`` reads what is left in its ``extra_info``.
        work: what is done, in words.
        ours, others: the ways; every call must do the whole work.
        rounds: of each way; one where benchmarks are disabled.
        examples: how many each call handles.
        limit, used, rate: the machine's limit in words, what one call uses of it, and how much of it there is a second.
    """
    taken: dict[str, list[float]] = {name: [] for name in others}
    rates: list[float] = []

    def before() -> None:
        for name, way in others.items():
            taken[name].append(seconds(way))
        if rate is not None and not benchmark.disabled:
            rates.append(rate())

    if not benchmark.disabled:
        ours()  # warm
    benchmark.pedantic(ours, setup=before, rounds=rounds if not benchmark.disabled else 1)
    info = {"work": work, "others": {name: min(times) for name, times in taken.items()}, "examples": examples}
    benchmark.extra_info.update(info)
    if rates:
        benchmark.extra_info.update({"limit": limit, "used": used, "rate": max(rates)})
