"""How cost grows with sequence length, model size and grid size: ``python -m tests.performance.scaling DIR``.

Writes ``scaling.json``, ``scaling.png`` and ``scaling.pdf``. An exponent is the slope of a line through logarithms.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.performance.comparison import seconds

LENGTHS = (16, 32, 64, 128, 256, 512)
SHAPES = {4: (128, 2), 11: (256, 4), 23: (384, 6), 41: (512, 8), 67: (768, 6), 110: (768, 12)}  # hidden, layers
CELLS = (10, 100, 1_000, 10_000, 100_000)
TOKENS = 4096  # of a batch
PLAN = """
import sys, time, resource
from bench.experiment.plan import Plan
from bench.suites import suite
started = time.perf_counter()
jobs = Plan(suite.load(sys.argv[1])).jobs
print(time.perf_counter() - started, len(jobs))
"""


def bert(hidden: int, layers: int, vocabulary: int = 30522) -> Any:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64), intermediate_size=4 * hidden,
    )  # fmt: skip
    return BertForSequenceClassification(config)


def rates(model: Any, length: int) -> tuple[float, float]:
    """Return examples a second in training and in prediction, for sequences of one length."""
    import torch

    from bench.learning import hardware, packed, unpadded
    from bench.learning.tokens import Encoded

    count = max(1, TOKENS // length)
    rng = np.random.default_rng(0)
    ids = rng.integers(1000, 30000, count * length).astype(np.int32)
    encoded = Encoded(ids, np.arange(count + 1, dtype=np.int64) * length, None)
    batch = unpadded.pack(encoded, np.arange(count), model)
    dtype = torch.bfloat16 if hardware.native_bf16("cpu") else torch.float32
    optimiser, noise = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True), unpadded.Noise(0)

    def train() -> None:
        packed.logits(model, batch, dtype=dtype, noise=noise).logsumexp(1).mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    def predict() -> None:
        with torch.inference_mode():
            packed.logits(model, batch, dtype=dtype)

    return tuple(count / min(seconds(way) for _ in range(3)) for way in (train, predict))  # type: ignore[return-value]


def planning(cells: int) -> float:
    """Return the seconds that a plan of so many cells takes, in a fresh process."""
    seeds = max(1, cells // 10)
    ratios = [round(0.1 * i, 1) for i in range(10)] if cells >= 10 else [0.5]
    text = {
        "name": "grid", "description": "a large grid", "task": {"name": "reviews", "max_train": 20, "max_test": 20},
        "model": "embedded", "attack": ["badword"], "seed": list(range(seeds)),
        "defense": [{"name": "fine-mixing", "sweep": {"reserve_ratio": ratios}}],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid.yaml"
        path.write_text(json.dumps(text), encoding="utf-8")
        done = subprocess.run([sys.executable, "-c", PLAN, str(path)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[0])


def slope(x: list[float], y: list[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def measure() -> dict[str, Any]:
    small = bert(*SHAPES[23])
    by_length = [rates(small, length) for length in LENGTHS]
    by_size, sizes = [], []
    for shape in SHAPES.values():
        model = bert(*shape)
        sizes.append(sum(p.numel() for p in model.parameters()) / 1e6)
        by_size.append(rates(model, 64))
        del model
    return {
        "length": {"x": list(LENGTHS), "training": [r[0] for r in by_length], "prediction": [r[1] for r in by_length]},
        "millions of parameters": {
            "x": sizes, "training": [r[0] for r in by_size], "prediction": [r[1] for r in by_size],
        },
        "cells": {"x": list(CELLS), "planning, cells a second": [n / planning(n) for n in CELLS]},
    }  # fmt: skip


def draw(measured: dict[str, Any], folder: Path) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    from bench.report.figures import style

    labels = {"length": "tokens of a sequence", "cells": "cells of a grid"}
    with style.applied():
        figure, axes = plt.subplots(1, 3, figsize=(style.PAGE, 2.6), layout="constrained")
        for axis, (name, series) in zip(axes, measured.items(), strict=True):
            for i, (way, y) in enumerate((way, y) for way, y in series.items() if way != "x"):
                note = f"{way.partition(',')[0]}: exponent {slope(series['x'], y):.2f}"
                axis.loglog(series["x"], y, marker=style.MARKERS[i], color=style.COLOURS[i], label=note)
            axis.set_xticks([float(f"{x:.3g}") for x in series["x"]])
            axis.tick_params(axis="x", rotation=45)
            axis.xaxis.set_minor_locator(NullLocator())
            axis.yaxis.set_minor_formatter(NullFormatter())
            for one in (axis.xaxis, axis.yaxis):
                one.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axis.set_xlabel(labels.get(name, name))
            axis.set_ylabel("cells a second" if name == "cells" else "examples a second")
            axis.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=style.SMALL)
        for suffix in ("png", "pdf"):
            figure.savefig(folder / f"scaling.{suffix}", dpi=style.DPI)
        plt.close(figure)


def main(folder: str) -> None:
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    measured = measure()
    (place / "scaling.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    draw(measured, place)


if __name__ == "__main__":
    main(*sys.argv[1:])
