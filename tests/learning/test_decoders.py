"""Decoders without padding, and greedy generation, against transformers' own passes in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from bench import learning, models
from bench.contracts import Dialogue, Dialogues
from bench.contracts.examples import Inputs
from bench.learning import decoders, fused, generation
from bench.learning.responses import TOGETHER
from tests.tiny import tiny_gpt2_folder, tiny_llama_folder

LLAMAS: dict[str, dict[str, Any]] = {
    "grouped and tied": {},
    "untied": {"tie_word_embeddings": False, "num_key_value_heads": 4},
    "one key head, biases": {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
    "scaled positions": {
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
        }
    },
    "wide heads": {"head_dim": 16},
}  # fmt: skip


def generator(folder: Path, **options: Any) -> learning.Generator:
    pretrained = models.create(str(folder))
    tokenizer = pretrained.tokenizer()
    given = None if tokenizer.chat_template else learning.PLAIN
    template = learning.Template(tokenizer, given=given, name=pretrained.name)
    options = {"max_prompt": 48, "max_response": 16, "device": "cpu", "precision": "fp32"} | options
    return learning.Generator(pretrained.causal_lm(), tokenizer, template, **options)


def dialogues(n: int) -> Dialogues:
    """Prompts and responses of many lengths."""
    return Dialogues.of(
        Dialogue(f"Is film {i} good?" + " very" * (3 * i % 13), ("It is" + " good" * (i % 5)) if i % 4 else "no")
        for i in range(n)
    )


@pytest.fixture(scope="module", params=LLAMAS)
def llama(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> learning.Generator:
    return generator(tiny_llama_folder(tmp_path_factory.mktemp("llama") / "model", **LLAMAS[request.param]))


@pytest.fixture(scope="module", params=[*LLAMAS, "learned positions"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> learning.Generator:
    folder = tmp_path_factory.mktemp("decoder") / "model"
    if request.param == "learned positions":
        return generator(tiny_gpt2_folder(folder))
    return generator(tiny_llama_folder(folder, **LLAMAS[request.param]))


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


def plain_loss(made: learning.Generator, rows: np.ndarray, examples: Dialogues) -> torch.Tensor:
    """What transformers computes on a padded batch, with logits of all tokens."""
    batch = made.objective(examples).batch(rows)
    loss: torch.Tensor = made.model(**batch, use_cache=False).loss
    return loss


@pytest.mark.parametrize("rows", [np.arange(13), np.array([5]), np.array([1, 1])], ids=["many", "one", "equal"])
def test_losses_and_gradients_are_the_models_own(llama: learning.Generator, rows: np.ndarray) -> None:
    examples, model = dialogues(13), llama.model
    encoded = llama.encode(examples)
    assert decoders.supports(model)
    expected = plain_loss(llama, rows, examples)
    wanted = gradients(model, expected)
    logits, gold = decoders.response_logits(model, encoded, rows, low=False)
    losses = {
        "logits": functional.cross_entropy(logits, gold),
        "no logits": decoders.response_loss(model, encoded, rows, low=False),
        "computed twice": decoders.response_loss(model, encoded, rows, low=False, recompute=True),
    }
    for name, loss in losses.items():
        assert torch.allclose(loss, expected, atol=1e-5), name
        ours = gradients(model, loss)
        assert ours.keys() == wanted.keys()
        assert all(torch.allclose(ours[n], wanted[n], atol=1e-5, rtol=1e-4) for n in wanted), name


def test_logits_are_made_some_tokens_at_a_time(llama: learning.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, rows, model = llama.encode(dialogues(13)), np.arange(13), llama.model
    whole = decoders.response_loss(model, encoded, rows, low=False)
    wanted = gradients(model, whole)
    logs = decoders.token_scores(model, encoded, rows, low=False)
    monkeypatch.setattr(fused, "AT_ONCE", 7)
    parts = decoders.response_loss(model, encoded, rows, low=False)
    assert torch.allclose(whole, parts, atol=1e-6)
    ours = gradients(model, parts)
    assert all(torch.allclose(ours[n], wanted[n], atol=1e-6) for n in wanted)
    again = decoders.token_scores(model, encoded, rows, low=False)
    assert torch.allclose(again, logs, atol=1e-5)
    kept = decoders.token_scores(model, encoded, rows, low=False, often=False)
    assert torch.allclose(kept, logs, atol=1e-5)


def test_low_precision_is_close(llama: learning.Generator) -> None:
    encoded, rows = llama.encode(dialogues(13)), np.arange(13)
    exact, low = (decoders.response_loss(llama.model, encoded, rows, low=low) for low in (False, True))
    assert abs(exact - low) < 0.02 * exact


def test_only_known_models_without_hooks_are_computed_here(llama: learning.Generator, tmp_path: Path) -> None:
    assert not decoders.supports(generator(tiny_gpt2_folder(tmp_path / "gpt2")).model)
    handle = llama.model.model.layers[1].register_forward_hook(lambda *_: None)
    assert not decoders.supports(llama.model)
    handle.remove()
    assert decoders.supports(llama.model)


@torch.inference_mode()
def test_scores_of_tokens(decoder: learning.Generator) -> None:
    made, examples = decoder, dialogues(9)
    sums, tokens = made.log_likelihood(examples)
    for row, dialogue in enumerate(examples):
        asked, answered = made.template.encode(dialogue)
        ids = torch.from_numpy(np.concatenate([asked, answered]).astype(np.int64))[None]
        logs = made.model(ids).logits[0, len(asked) - 1 : -1].log_softmax(-1)
        own = logs[torch.arange(len(answered)), ids[0, len(asked) :]].sum()
        assert abs(float(own) - sums[row]) < 1e-3 and tokens[row] == len(answered)


@torch.inference_mode()
def one_by_one(made: learning.Generator, inputs: Inputs, most: int) -> list[list[int]]:
    """Greedy decoding by hand, without a stop: one prompt at a time, the whole text again for every token."""
    responses = []
    for ids in made.template.prompts(inputs, made.max_prompt):
        text = torch.from_numpy(ids.astype(np.int64))[None]
        for _ in range(most):
            text = torch.cat([text, made.model(text).logits[:, -1:].argmax(-1)], dim=1)
        responses.append(text[0, len(ids) :].tolist())
    return responses


def test_generation_is_greedy_to_the_token(decoder: learning.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    made, examples = decoder, dialogues(12)
    endless = one_by_one(made, examples.inputs, 9)
    last = max(sum(endless, []), key=lambda token: len({row.index(token) for row in endless if token in row}))
    monkeypatch.setattr(made.template, "stops", (last,))
    expected = [row[: row.index(last) + 1] if last in row else row for row in endless]
    assert len({len(ids) for ids in expected}) > 1, "some end early and others do not"
    assert [ids.tolist() for ids in made.respond(examples.inputs, most=9)] == expected
    monkeypatch.setattr(generation, "TOGETHER", 150)  # several batches
    assert [ids.tolist() for ids in made.respond(examples.inputs, most=9)] == expected
    assert [ids.tolist() for ids in made.respond(examples.inputs.take([3]), most=9)] == expected[3:4]
    assert made.respond(examples.inputs.take([]), most=9) == []
    assert [len(ids) for ids in made.respond(examples.inputs, most=1)] == [1] * 12


@pytest.mark.parametrize("options", [("good", "no"), ("It is good", "no")], ids=["single tokens", "several"])
@torch.inference_mode()
def test_choices_are_the_likelihoods_of_beginnings(decoder: learning.Generator, options: tuple[str, ...]) -> None:
    made = decoder
    inputs = dialogues(7).inputs
    scores = made.choose(inputs, options)
    for column, option in enumerate(options):
        fixed = made.template.responses([option])[0][:-1].astype(np.int64)
        for row, asked in enumerate(made.template.prompts(inputs, made.max_prompt)):
            ids = torch.from_numpy(np.concatenate([asked.astype(np.int64), fixed]))[None]
            logs = made.model(ids).logits[0, len(asked) - 1 : -1].log_softmax(-1)
            own = logs[torch.arange(len(fixed)), torch.from_numpy(fixed)].sum()
            assert abs(float(own) - scores[row, column]) < 1e-4


def test_rows_go_together_up_to_a_budget_of_tokens(llama: learning.Generator) -> None:
    objective, rows = llama.objective(dialogues(13)), np.array([4, 2, 9, 0, 7])
    assert objective.lengths.sum() < TOGETHER
    assert [part.tolist() for part in objective.parts(rows, 99)] == [rows.tolist()]
    assert [part.tolist() for part in objective.parts(rows, 2)] == [[4, 2], [9, 0], [7]]
    objective.together = int(objective.lengths[[4, 2]].sum())
    parts = objective.parts(rows, 99)
    assert np.concatenate(parts).tolist() == rows.tolist() and parts[0].tolist() == [4, 2]
    objective.together = 1
    assert [len(part) for part in objective.parts(rows, 99)] == [1] * 5
