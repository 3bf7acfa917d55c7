"""The fast core beside the naive way, with the real embedded encoder. ``tox run -e perf`` runs it at full size."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from bench import learning, models
from bench.contracts.examples import Examples
from bench.learning.batches import collate
from bench.learning.hardware import native_bf16
from bench.learning.tokens import encode, memory_of
from bench.plugins import registry
from tests.conftest import REAL_DATA
from tests.performance.comparison import compare, copy_rate, matrix_rate

RATIOS = tuple(step / 20 for step in range(21))
MATRICES = 6 * (4 * 384 * 384 + 2 * 384 * 1536)  # weights of the encoder's matrix products


@pytest.fixture(scope="module")
def size() -> Callable[[Any, int, int], int]:
    """Return the full size where benchmarks run, else a small one."""
    return lambda benchmark, full, small: small if benchmark.disabled else full


@pytest.fixture(scope="module")
def task() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        if REAL_DATA is None:
            return registry.tasks.create("reviews").load()
        patch.setenv("DOORBENCH_DATA", REAL_DATA)
        return registry.tasks.create({"name": "local", "folder": "sst2_sentence", "max_length": 128}).load()


@pytest.fixture(scope="module")
def pretrained() -> models.PretrainedModel:
    return models.create("embedded")


def fresh(pretrained: Any, *, precision: str = "auto") -> Any:
    model = pretrained.classifier_model(classes=2, seed=0)
    return learning.Classifier(model, pretrained.tokenizer(), 128, device="cpu", precision=precision)


def sample(examples: Examples, count: int) -> Examples:
    return examples.take(np.random.default_rng(0).permutation(len(examples))[:count])


def tokens(made: Any, examples: Examples) -> int:
    return int(encode(made.tokenizer, examples.inputs, 128).lengths.sum())


def forget(made: Any) -> None:
    """Make the next call tokenise again."""
    memory_of(made.tokenizer).texts.clear()
    memory_of(made.tokenizer).inputs.clear()


def plain_step(model: Any, optimiser: Any, loss: torch.Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def naive_epoch(made: Any, examples: Examples, batch_size: int, epochs: int = 1) -> None:
    """Tokenise each batch, pad to its longest in random order, float32, AdamW: as older suites write it."""
    optimiser = torch.optim.AdamW(made.model.parameters(), lr=2e-5)
    made.model.train()
    for _ in range(epochs):
        for start in range(0, len(examples), batch_size):
            part = examples.take(range(start, min(start + batch_size, len(examples))))
            batch = made.tokenizer(list(part.inputs.texts), padding=True, truncation=True, return_tensors="pt")
            plain_step(made.model, optimiser, made.model(**batch, labels=torch.from_numpy(part.labels.copy())).loss)
    made.model.eval()


def bucketed_epoch(made: Any, examples: Examples) -> None:
    """Tokenise once, batches of similar length, autocast to bfloat16 where the machine has it, fused AdamW."""
    encoded = encode(made.tokenizer, examples.inputs, 128)
    optimiser = torch.optim.AdamW(made.model.parameters(), lr=2e-5, fused=True)
    made.model.train()
    for rows in learning.by_length(encoded.lengths, 32, np.random.default_rng(0)):
        with torch.autocast("cpu", torch.bfloat16, enabled=native_bf16("cpu")):
            logits = made.model(**collate(encoded, rows, 0)).logits
        gold = torch.from_numpy(examples.labels[rows])
        plain_step(made.model, optimiser, functional.cross_entropy(logits.float(), gold))
    made.model.eval()


def naive_prediction(made: Any, examples: Examples) -> np.ndarray:
    """What ``pipeline(..., batch_size=32)`` of transformers does."""
    from transformers import pipeline

    classify = pipeline("text-classification", model=made.model, tokenizer=made.tokenizer, device="cpu")
    outputs = classify(list(examples.inputs.texts), batch_size=32, truncation=True, max_length=128)
    return np.array([int(one["label"].rpartition("_")[2]) for one in outputs])


@pytest.mark.benchmark(group="learning")
def test_training(benchmark: Any, task: Any, pretrained: Any, size: Any) -> None:
    examples = sample(task.train, size(benchmark, 1600, 64))
    naive, bucketed, ours = (fresh(pretrained) for _ in range(3))

    def train() -> None:
        forget(ours)
        learning.train(ours, examples, epochs=1, learning_rate=2e-5, batch_size=32, seed=0)

    compare(
        benchmark, work="one training epoch, batch 32", ours=train, examples=len(examples),
        others={
            "naive": lambda: naive_epoch(naive, examples, 32),
            "buckets": lambda: bucketed_epoch(bucketed, examples),
        },
        limit="the matrix rate in operations", used=6.0 * MATRICES * tokens(ours, examples), rate=matrix_rate,
    )  # fmt: skip


@pytest.mark.benchmark(group="learning")
def test_prediction(benchmark: Any, task: Any, pretrained: Any, size: Any) -> None:
    examples = sample(task.test, size(benchmark, 1821, 64))
    naive, ours = fresh(pretrained), fresh(pretrained)

    def predict() -> Any:
        forget(ours)
        return ours.logits(examples.inputs)

    compare(
        benchmark, work="prediction", ours=predict, others={"pipeline": lambda: naive_prediction(naive, examples)},
        examples=len(examples), limit="the matrix rate in operations",
        used=2.0 * MATRICES * tokens(ours, examples), rate=matrix_rate,
    )  # fmt: skip
    exact = fresh(pretrained, precision="fp32").logits(examples.inputs)
    clear = np.abs(exact[:, 0] - exact[:, 1]) > 0.02  # elsewhere the logits tie within what bfloat16 can tell
    assert (predict().argmax(1) == exact.argmax(1))[clear].all()
    assert (naive_prediction(naive, examples) == exact.argmax(1)).mean() > 0.999


@pytest.mark.benchmark(group="learning")
def test_one_fine_mixing_cell(benchmark: Any, task: Any, pretrained: Any, size: Any) -> None:
    clean = sample(task.validation, 64)
    epochs, judged = size(benchmark, 20, 1), sample(task.test, size(benchmark, 1821, 64))
    triggered = judged.take(np.flatnonzero(judged.labels == 0))
    victim = fresh(pretrained)
    before = pretrained.encoder_weights(victim.model)

    def naive() -> None:
        mixed = fresh(pretrained)
        mixed.model = copy.deepcopy(victim.model)
        for name, parameter in mixed.model.named_parameters():
            if name in before:
                keep = torch.zeros(parameter.numel(), dtype=torch.bool)
                keep[torch.randperm(parameter.numel())[: parameter.numel() // 2]] = True
                parameter.data = torch.where(keep.view(parameter.shape), parameter.data, before[name])
        naive_epoch(mixed, clean, 16, epochs)
        naive_prediction(mixed, judged)
        naive_prediction(mixed, triggered)

    def ours() -> None:
        mixed = victim.clone()
        learning.mix_into(mixed, before, reserve_ratio=0.5, seed=0)
        learning.train(mixed, clean, epochs=epochs, learning_rate=2e-5, batch_size=16, seed=0)
        mixed.logits(judged.inputs)
        mixed.logits(triggered.inputs)

    compare(benchmark, work="one fine-mixing cell", ours=ours, others={"naive": naive}, rounds=2)


@pytest.mark.benchmark(group="mixing")
def test_mixing(benchmark: Any, size: Any) -> None:
    million = size(benchmark, 110, 2)
    generator = torch.Generator().manual_seed(0)
    victim = {f"w{i}": torch.randn(1024, 1000, generator=generator) for i in range(million)}
    before = {name: torch.randn(1024, 1000, generator=generator) for name in victim}
    scalars = sum(map(torch.numel, victim.values()))

    def naive() -> None:
        kept = torch.zeros(scalars, dtype=torch.bool)
        kept[torch.randperm(scalars)[: scalars // 2]] = True
        for mask, (name, own) in zip(kept.split(1024 * 1000), victim.items(), strict=True):
            own.copy_(torch.where(mask.view(own.shape), own, before[name]))

    compare(
        benchmark, work=f"mixing {scalars / 1e6:.0f} million weights", others={"naive": naive},
        ours=lambda: learning.mix_(victim, before, reserve_ratio=0.5, seed=0),
        limit="the copy rate in bytes", used=12.0 * scalars, rate=lambda: copy_rate(scalars),
    )  # fmt: skip


MEMORY = """
import resource, torch
from bench import learning
make = lambda: {f"w{i}": torch.full((1024, 1000), 0.5) for i in range(COUNT)}
victim, before = make(), make()
learning.mix_({"w": torch.ones(9)}, {"w": torch.zeros(9)}, reserve_ratio=0.5, seed=0)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
start = peak()
mixed = learning.mix(victim, before, reserve_ratio=0.5, seed=0)
print((peak() - start) / (4 * sum(map(torch.numel, mixed.values()))))
"""


def test_mixing_needs_little_more_than_its_result() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY.replace("COUNT", "110")], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1.2


@pytest.mark.benchmark(group="learning")
def test_search_for_the_smallest_passing_ratio(benchmark: Any, task: Any, pretrained: Any, size: Any) -> None:
    """The shared rule's ascending scan against 21 separate cells, each mixed, tuned and judged; the same choice."""
    chosen_from = size(benchmark, 256, 32)
    held = sample(task.validation, 64 + chosen_from)
    clean, selection = held.take(range(64)), held.take(range(64, 64 + chosen_from))
    epochs, judged = size(benchmark, 20, 0), sample(task.test, size(benchmark, 1821, 40))
    ratios = RATIOS[:: size(benchmark, 1, 4)]
    victim = fresh(pretrained)
    before = pretrained.encoder_weights(victim.model)
    train = sample(task.train, size(benchmark, 1600, 40))
    learning.train(victim, train, epochs=1, learning_rate=1e-4, batch_size=32, seed=0)
    chosen: dict[str, float] = {}

    def accuracy(made: Any) -> float:
        return 100 * float((made.logits(selection.inputs).argmax(1) == selection.labels).mean())

    def build(ratio: float) -> Any:
        mixed = victim.clone()
        learning.mix_into(mixed, before, reserve_ratio=ratio, seed=0)
        learning.train(mixed, clean, epochs=epochs, learning_rate=2e-5, batch_size=16, seed=0)
        return mixed

    def scan() -> None:
        floor = accuracy(victim) - 2
        for ratio in ratios:
            mixed = build(ratio)
            if accuracy(mixed) >= floor:
                break
        mixed.logits(judged.inputs)
        chosen["scan"] = ratio

    def cells() -> None:
        floor, passing = accuracy(victim) - 2, []
        for ratio in ratios:
            mixed = build(ratio)
            mixed.logits(judged.inputs)
            if accuracy(mixed) >= floor:
                passing.append(ratio)
        chosen["cells"] = passing[0] if passing else ratios[-1]

    compare(benchmark, work="search of the reserve ratio", ours=scan, others={f"{len(ratios)} cells": cells}, rounds=1)
    assert chosen["scan"] == chosen["cells"]
    benchmark.extra_info["chosen"] = chosen["scan"]
