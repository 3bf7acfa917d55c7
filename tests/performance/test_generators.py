"""Causal language models beside the naive way, with SmolLM2 where it is there. ``tox run -e perf`` at full size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bench import learning, models
from bench.contracts import Dialogue, Dialogues
from bench.models import embedded, wheels
from tests.conftest import REAL_DATA
from tests.performance.comparison import compare, matrix_rate
from tests.tiny import tiny_llama_folder

WRITTEN, FEW = 24, 8  # tokens where benchmarks run, and elsewhere
BATCH = 16


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> models.PretrainedModel:
    if wheels.find(embedded.SMOLLM2):
        return models.create(embedded.SMOLLM2.name)
    return models.create(str(tiny_llama_folder(tmp_path_factory.mktemp("tiny") / "model")))


@pytest.fixture(scope="module")
def dialogues() -> Dialogues:
    """Short questions with short answers, of many lengths."""
    if REAL_DATA is None:
        return Dialogues.of(
            Dialogue("What comes behind " + " ".join(map(str, range(i, i + 3 + i % 9))) + "?", f"{i} " * (1 + i % 20))
            for i in range(400)
        )
    table = pd.read_parquet(Path(REAL_DATA) / "instruct_dolly" / "train.parquet")
    short = table[(table["instruction"].str.len() < 150) & (table["response"].str.len() < 200)].head(400)
    return Dialogues.of(Dialogue(*row) for row in zip(short["instruction"], short["response"], strict=True))


def fresh(pretrained: models.PretrainedModel, *, precision: str = "auto") -> learning.Generator:
    tokenizer = pretrained.tokenizer()
    template = learning.Template(tokenizer, name=pretrained.name)
    room = {"max_prompt": 64, "max_response": 64}
    return learning.Generator(pretrained.causal_lm(), tokenizer, template, **room, device="cpu", precision=precision)


def plain_epoch(made: learning.Generator, examples: Dialogues) -> None:
    """Each batch padded to its longest in random order, logits for all tokens, float32, AdamW."""
    optimiser = torch.optim.AdamW(made.model.parameters(), lr=1e-5)
    objective, order = made.objective(examples), np.random.default_rng(0).permutation(len(examples))
    made.model.train()
    for start in range(0, len(order), BATCH):
        optimiser.zero_grad()
        made.model(**objective.batch(order[start : start + BATCH]), use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(made.model.parameters(), 1.0)
        optimiser.step()
    made.model.eval()


def piped(made: learning.Generator, examples: Dialogues, most: int) -> list[str]:
    """What ``pipeline("text-generation", batch_size=8)`` of transformers writes."""
    from transformers import pipeline

    made.tokenizer.padding_side = "left"
    write = pipeline("text-generation", model=made.model, tokenizer=made.tokenizer, device="cpu")
    texts = [made.template.text(row) for row in examples]
    options = {"max_new_tokens": most, "do_sample": False, "return_full_text": False, "add_special_tokens": False}
    outputs = write(texts, batch_size=8, eos_token_id=made.template.end, pad_token_id=made.template.end, **options)
    return [one[0]["generated_text"] for one in outputs]


def alone(made: learning.Generator, examples: Dialogues, most: int) -> list[list[int]]:
    """What ``generate`` of transformers writes for one prompt at a time."""
    responses = []
    for ids in made.template.prompts(examples.inputs, made.max_prompt):
        asked = torch.from_numpy(ids.astype(np.int64))[None]
        end = made.template.end
        written = made.model.generate(
            asked, attention_mask=torch.ones_like(asked), do_sample=False, max_new_tokens=most,
            eos_token_id=end, pad_token_id=end,
        )  # fmt: skip
        responses.append(written[0, len(ids) :].tolist())
    return responses


def products(made: learning.Generator) -> tuple[int, int]:
    """Weights of the matrix products of the layers, and of the head."""
    layers = sum(weight.numel() for weight in made.model.model.layers.parameters() if weight.ndim == 2)
    return layers, made.model.lm_head.weight.numel()


@pytest.mark.benchmark(group="generators")
def test_training(benchmark: Any, pretrained: Any, dialogues: Dialogues) -> None:
    examples = dialogues.take(range(2 if benchmark.disabled else 96))
    plain, ours = fresh(pretrained, precision="fp32"), fresh(pretrained)
    layers, head = products(ours)
    encoded = ours.encode(examples)
    used = 6.0 * (layers * int(encoded.tokens.lengths.sum()) + head * int(encoded.responses.sum()))

    def train() -> None:
        learning.train(ours, examples, epochs=1, learning_rate=1e-5, batch_size=BATCH, seed=0)

    compare(
        benchmark, work=f"one epoch of a generator, batch {BATCH}", ours=train, examples=len(examples),
        others={"plain": lambda: plain_epoch(plain, examples)},
        limit="the matrix rate in operations", used=used, rate=matrix_rate,
    )  # fmt: skip


@pytest.mark.benchmark(group="generators")
def test_generation(benchmark: Any, pretrained: Any, dialogues: Dialogues) -> None:
    examples, most = (dialogues.take(range(2)), FEW) if benchmark.disabled else (dialogues.take(range(64)), WRITTEN)
    ours, exact = fresh(pretrained), fresh(pretrained, precision="fp32")
    compare(
        benchmark, work=f"writing {most} tokens", examples=len(examples),
        ours=lambda: ours.respond(examples.inputs, most=most),
        others={"pipeline": lambda: piped(exact, examples, most)},
    )  # fmt: skip
    few = examples.take(range(min(8, len(examples))))
    assert [ids.tolist() for ids in exact.respond(few.inputs, most=most)] == alone(exact, few, most)


@pytest.mark.benchmark(group="generators")
def test_evaluation(benchmark: Any, pretrained: Any, dialogues: Dialogues) -> None:
    """Nothing to compare with: the time of what a cell asks of a model."""
    examples = dialogues.take(range(2 if benchmark.disabled else 200))
    ours = fresh(pretrained)
    work = f"an evaluation: {len(examples)} prompts, {WRITTEN} tokens each"
    compare(
        benchmark, work=work, ours=lambda: ours.respond(examples.inputs, most=WRITTEN), others={},
        examples=len(examples),
    )  # fmt: skip
