"""Do the fast paths give the same ACC and ASR as the simple ones? ``python -m tests.performance.agreement DIR``.

Three seeds of BadWord on sentence-level SST-2 (without ``DOORBENCH_DATA`` on the generated reviews). Each is trained
and judged twice, from the same start, on the same poisoned examples in the same batches: by the learning room as it is,
and by transformers, torch and float32 alone, with padding. Dropout is off, because the two draw its random bits in
different ways; so only arithmetic differs. Writes ``agreement.json``; exit status 1 where the means over seeds differ
by more than half a point.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attacks.shared.triggers import insert
from bench import learning, models
from bench.contracts.examples import Examples
from bench.learning.loop import schedule
from bench.learning.tokens import encode
from bench.plugins import registry

SEEDS, EPOCHS, RATE, BATCH, LENGTH = (0, 1, 2), 3, 1e-4, 32, 64
MOST = 0.5  # points


def poisoned(examples: Examples, rng: np.random.Generator, *, target: int = 1, rate: float = 0.1) -> Examples:
    """Put the word cf at a random place of some non-target examples and give them the target label."""
    texts, labels = list(examples.inputs.texts), examples.labels.copy()
    rows = rng.choice(np.flatnonzero(labels != target), int(rate * len(labels)), replace=False)
    for row in rows:
        texts[row], labels[row] = triggered(texts[row], rng), target
    return Examples(type(examples.inputs)(tuple(texts)), labels)


def triggered(text: str, rng: np.random.Generator) -> str:
    return insert(text, "cf", int(rng.integers(len(text.split()) + 1)))


def padded(tokenizer: Any, part: Examples) -> Any:
    texts = list(part.inputs.texts)
    return tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")


def undropped(model: Any) -> Any:
    """Switch every dropout off."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def simple_training(model: Any, tokenizer: Any, examples: Examples, seed: int) -> None:
    lengths = encode(tokenizer, examples.inputs, LENGTH).lengths
    order = np.random.default_rng(seed)
    plan = [rows for _ in range(EPOCHS) for rows in learning.by_length(lengths, BATCH, order)]
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    model.train()
    for step, rows in enumerate(plan):
        part = examples.take(rows)
        optimiser.param_groups[0]["lr"] = RATE * schedule(step, len(plan), 0.1)
        optimiser.zero_grad()
        model(**padded(tokenizer, part), labels=torch.from_numpy(part.labels.copy())).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()


def simple_labels(model: Any, tokenizer: Any, examples: Examples) -> np.ndarray:
    labels = []
    with torch.inference_mode():
        for start in range(0, len(examples), BATCH):
            part = examples.take(range(start, min(start + BATCH, len(examples))))
            labels.append(model(**padded(tokenizer, part)).logits.argmax(1).numpy())
    return np.concatenate(labels)


def measure(seed: int) -> dict[str, dict[str, float]]:
    """Return ACC and ASR in percent of both ways."""
    which = {"name": "local", "folder": "sst2_sentence"} if "DOORBENCH_DATA" in os.environ else {"name": "reviews"}
    task = registry.tasks.create({**which, "max_train": 2000, "max_length": LENGTH}).load()
    pretrained = models.create("embedded")
    rng = np.random.default_rng(seed)
    train, others = poisoned(task.train, rng), task.test.take(np.flatnonzero(task.test.labels == 0))
    asked = Examples(type(others.inputs)(tuple(triggered(text, rng) for text in others.inputs.texts)), others.labels)
    pair = [undropped(pretrained.classifier_model(classes=2, seed=seed)) for _ in range(2)]
    fast = learning.Classifier(pair[0], pretrained.tokenizer(), LENGTH, device="cpu")
    learning.train(fast, train, epochs=EPOCHS, learning_rate=RATE, batch_size=BATCH, seed=seed)
    slow, tokenizer = pair[1], pretrained.tokenizer()
    simple_training(slow, tokenizer, train, seed)
    labels = {
        "fast": [fast.logits(part.inputs).argmax(1) for part in (task.test, asked)],
        "simple": [simple_labels(slow, tokenizer, part) for part in (task.test, asked)],
    }
    return {
        way: {"acc": 100 * float((clean == task.test.labels).mean()), "asr": 100 * float((hit == 1).mean())}
        for way, (clean, hit) in labels.items()
    }


def main(folder: str) -> int:
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    figures = {f"seed {seed}": measure(seed) for seed in SEEDS}
    apart = {
        metric: float(np.mean([one["fast"][metric] - one["simple"][metric] for one in figures.values()]))
        for metric in ("acc", "asr")
    }
    text = json.dumps({**figures, "mean difference, points": apart}, indent=1)
    (place / "agreement.json").write_text(text + "\n", encoding="utf-8")
    print(text)
    return int(any(abs(value) > MOST for value in apart.values()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
