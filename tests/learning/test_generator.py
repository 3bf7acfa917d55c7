"""Generators: trained by the one loop, saved, loaded and copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import learning, models
from bench.errors import RequestError
from bench.learning import training
from tests.learning.test_decoders import dialogues, generator, gradients, plain_loss
from tests.tiny import tiny_gpt2_folder, tiny_llama_folder

FEW: dict[str, Any] = {"steps": 8, "learning_rate": 1e-3, "batch_size": 5, "seed": 3, "precision": "fp32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama_folder(tmp_path_factory.mktemp("llama") / "model")


def same(one: learning.Generator, other: learning.Generator, atol: float = 0.0) -> bool:
    first, second = one.state(), other.state()
    return first.keys() == second.keys() and all(torch.allclose(first[n], second[n], atol=atol) for n in first)


def test_training_is_that_of_a_plain_loop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = dialogues(13)
    ours, plain = generator(folder), generator(folder)
    steps: list[np.ndarray] = []
    real = training.BatchGradients.accumulated

    def spy(self: Any, rows: np.ndarray) -> torch.Tensor:
        steps.append(rows)
        return real(self, rows)

    monkeypatch.setattr(training.BatchGradients, "accumulated", spy)
    notes = learning.train(ours, examples, **FEW)
    assert notes["steps"] == 8 and len(steps) == 8
    optimiser = torch.optim.AdamW(plain.model.parameters(), weight_decay=0.0)
    plain.model.train()
    losses = []
    for step, rows in enumerate(steps):
        optimiser.param_groups[0]["lr"] = 1e-3 * learning.schedule(step, 8, 0.1)
        loss = plain_loss(plain, rows, examples)
        gradients(plain.model, loss)
        torch.nn.utils.clip_grad_norm_(plain.model.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert notes["first_loss"] == pytest.approx(losses[0], rel=1e-4)
    assert notes["last_loss"] == pytest.approx(losses[-1], rel=1e-3)
    assert same(ours, plain, atol=2e-4)


@pytest.mark.parametrize("change", [{"micro_batch": 2}, {"extra_loss": lambda batch, logits, model: 0.0}])
def test_the_result_does_not_depend_on_how_a_batch_is_computed(folder: Path, change: dict[str, Any]) -> None:
    whole, parts = generator(folder), generator(folder)
    first = learning.train(whole, dialogues(13), **FEW)
    second = learning.train(parts, dialogues(13), **FEW, **change)
    assert first["last_pass_loss"] == pytest.approx(second["last_pass_loss"], rel=1e-3)
    assert same(whole, parts, atol=2e-4)


def test_a_loss_of_ones_own_sees_response_tokens(folder: Path) -> None:
    seen = []

    def extra(batch: dict[str, torch.Tensor], logits: torch.Tensor, model: Any) -> torch.Tensor:
        seen.append((int((batch["labels"] >= 0).sum()), logits.shape[0], batch["labels"].shape))
        return logits.sum() * 0

    learning.train(generator(folder), dialogues(6), **FEW, extra_loss=extra)
    assert seen and all(labels == tokens for labels, tokens, _ in seen)


def test_a_pass_counts_tokens_and_training_stops(folder: Path) -> None:
    made = generator(folder)
    options = FEW | {"steps": 200, "learning_rate": 5e-3}
    notes = learning.train(made, dialogues(6), **options, until_loss=0.5)
    assert notes["converged"] and notes["steps"] < 200 and notes["last_pass_loss"] < 0.5
    sums, tokens = made.log_likelihood(dialogues(6))
    assert -sums.sum() / tokens.sum() < 0.5


def test_memory_that_runs_out_is_spared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.learning import decoders

    whole, spared = generator(folder), generator(folder)
    learning.train(whole, dialogues(6), **FEW)
    real = decoders.response_loss

    def scarce(model: Any, encoded: Any, rows: Any, *, low: bool, recompute: bool = False) -> torch.Tensor:
        if len(rows) > 1 or not recompute:
            raise torch.OutOfMemoryError("too much")
        return real(model, encoded, rows, low=low, recompute=recompute)

    monkeypatch.setattr(decoders, "response_loss", scarce)
    notes = learning.train(spared, dialogues(6), **FEW)
    assert notes["out_of_memory"] == 3 and notes["micro_batch"] == 1  # 5, 2, 1, and then computed twice
    assert same(whole, spared, atol=2e-4)
    monkeypatch.setattr(decoders, "response_loss", lambda *_, **__: scarce(None, None, [1, 2], low=False))
    with pytest.raises(torch.OutOfMemoryError):
        learning.train(spared, dialogues(6), **FEW)


@pytest.mark.parametrize("make", [tiny_llama_folder, tiny_gpt2_folder])
def test_saved_loaded_and_copied(make: Any, tmp_path: Path) -> None:
    made = generator(make(tmp_path / "model"))
    learning.train(made, dialogues(6), **FEW)
    copied = made.clone()
    made.save(tmp_path / "saved")
    loaded = learning.Generator.load(
        tmp_path / "saved", models.create(str(tmp_path / "model")), device="cpu", precision="fp32"
    )
    assert same(made, copied) and same(made, loaded)
    assert loaded.template.source == made.template.source
    assert (loaded.max_prompt, loaded.max_response) == (made.max_prompt, made.max_response)
    expected = [ids.tolist() for ids in made.respond(dialogues(6).inputs)]
    for other in (copied, loaded):
        assert [ids.tolist() for ids in other.respond(dialogues(6).inputs)] == expected
    learning.train(copied, dialogues(6), **FEW)
    assert not same(made, copied)
    with pytest.raises(RequestError, match=r"no model.safetensors: it is not a saved generator"):
        learning.Generator.load(tmp_path, models.create(str(tmp_path / "model")))


def test_mixing_at_the_ends(folder: Path) -> None:
    victim = generator(folder)
    before = victim.state()
    learning.train(victim, dialogues(6), **FEW)
    tuned = victim.state()
    for ratio, expected in ((1.0, tuned), (0.0, before)):
        mixed = learning.mix(tuned, before, reserve_ratio=ratio, seed=0)
        assert all(torch.equal(mixed[name], expected[name]) for name in expected)


def test_little_memory_changes_no_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frugal generator computes activations twice and keeps no second form of its weights."""
    examples = dialogues(6)
    plain, frugal = generator(folder), generator(folder)
    monkeypatch.setattr(frugal, "frugal", True)
    frugal.token_budget = 40
    assert frugal.objective(examples).recompute and not plain.objective(examples).recompute
    for made in (plain, frugal):
        learning.train(made, examples, **FEW)
    assert same(plain, frugal, atol=1e-6)
    assert plain.predict(examples.inputs).texts == frugal.predict(examples.inputs).texts
    assert np.allclose(plain.log_likelihood(examples)[0], frugal.log_likelihood(examples)[0], atol=1e-4)
