"""The one training loop: its schedule, when it stops, and losses of one's own."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import learning, models
from bench.contracts.examples import Examples
from bench.learning import memory
from bench.learning.loop import Loop, schedule
from tests.learning.test_core import classifier, data, settings, weights
from tests.tiny import tiny_bert_folder

TO_STEPS = {"epochs": None, "learning_rate": 2e-3}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return models.create(str(tiny_bert_folder(tmp_path_factory.mktemp("tiny") / "model")))


def random_labels(n: int) -> Examples:
    return Examples(data(n).inputs, np.random.default_rng(0).integers(2, size=n))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The rows of every step of a training."""
    from bench.learning.training import BatchGradients

    rows_of_steps: list[tuple[int, ...]] = []
    original = BatchGradients.accumulated

    def spy(self: BatchGradients, rows: Any) -> torch.Tensor:
        rows_of_steps.append(tuple(int(row) for row in rows))
        return original(self, rows)

    monkeypatch.setattr(BatchGradients, "accumulated", spy)
    return rows_of_steps


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.1), (4, 0.1), (20, 0.1), (20, 0.5), (20, 0.0), (10, 1.0)])
def test_the_schedule_rises_to_the_peak_and_falls_towards_zero(total: int, warmup: float) -> None:
    shares = [schedule(step, total, warmup) for step in range(total)]
    rising = int(warmup * total)
    assert max(shares) == 1.0 and min(shares) > 0
    assert shares[:rising] == pytest.approx([(step + 1) / rising for step in range(rising)])
    falling = [1 - step / (total - rising) for step in range(total - rising)]
    assert shares[rising:] == pytest.approx(falling)


def test_it_stops_at_the_end_of_the_first_pass_with_a_low_loss(model: Any) -> None:
    made, train = classifier(model), data(60)
    notes = learning.train(made, train, **settings(**TO_STEPS, steps=600, until_loss=0.05))
    assert notes["converged"] is True and notes["last_pass_loss"] < 0.05
    assert notes["steps"] % 8 == 0 and 8 < notes["steps"] < 600  # whole passes of eight steps
    assert (made.logits(train.inputs).argmax(1) == train.labels).mean() > 0.95
    assert not made.model.training


def test_it_runs_to_the_limit_on_labels_that_cannot_be_learned(model: Any) -> None:
    made = classifier(model)
    notes = learning.train(made, random_labels(60), **settings(**TO_STEPS, steps=20, until_loss=0.05))
    assert (notes["steps"], notes["converged"]) == (20, False)
    assert notes["last_pass_loss"] > 0.5
    assert notes["tokens"] > 0 and np.isfinite(notes["last_loss"])


def test_without_a_whole_pass_nothing_has_converged(model: Any) -> None:
    notes = learning.train(classifier(model), data(60), **settings(**TO_STEPS, steps=3, until_loss=100.0))
    assert (notes["steps"], notes["last_pass_loss"], notes["converged"]) == (3, None, False)
    notes = learning.train(classifier(model), data(60), **settings(**TO_STEPS, steps=11))
    assert notes["steps"] == 11 and notes["last_pass_loss"] > 0 and notes["converged"] is None


def test_the_order_does_not_depend_on_where_it_stops(model: Any, seen: list[tuple[int, ...]]) -> None:
    orders = []
    for length in ({"epochs": 2}, {"epochs": 5}, {"epochs": None, "steps": 37}, {"epochs": None, "steps": 9}):
        learning.train(classifier(model), data(60), **settings(**length))
        orders.append(list(seen))
        seen.clear()
    longest = orders[1]
    assert [len(order) for order in orders] == [16, 40, 37, 9]
    assert all(order == longest[: len(order)] for order in orders)
    assert sorted(row for rows in longest[:8] for row in rows) == list(range(60))


def test_epochs_are_as_many_steps(model: Any) -> None:
    passes, steps = classifier(model), classifier(model)
    learning.train(passes, data(60), **settings(epochs=3))
    learning.train(steps, data(60), **settings(epochs=None, steps=24))
    assert torch.equal(weights(passes), weights(steps))


@pytest.mark.parametrize("until_loss", [None, 0.3])
def test_same_seed_same_bits(model: Any, until_loss: float | None) -> None:
    made, all_notes = [], []
    for noise in (1, 2):
        torch.manual_seed(noise)
        one = classifier(model)
        notes = learning.train(one, data(40), **settings(**TO_STEPS, steps=120, until_loss=until_loss))
        made.append(weights(one))
        all_notes.append({name: value for name, value in notes.items() if name != "seconds"})
    assert torch.equal(made[0], made[1]) and all_notes[0] == all_notes[1]
    assert (all_notes[0]["steps"] < 120) == (until_loss is not None)


def test_decay_of_words_that_do_not_occur_counts_the_steps_that_were_done(model: Any) -> None:
    words, table = classifier(model, dropout=0.0), classifier(model, dropout=0.0)
    options = settings(**TO_STEPS, steps=200, until_loss=0.3, weight_decay=0.1)
    first = learning.train(words, data(40), **options)
    second = learning.train(table, data(40), **options, after_step=lambda *_: None)
    assert first["steps"] == second["steps"] < 200
    assert torch.allclose(weights(words), weights(table), atol=2e-4)


@pytest.mark.parametrize("length", [{}, {"epochs": 1, "steps": 5}, {"epochs": 1, "until_loss": 0.1}])
def test_exactly_one_length_is_asked_for(model: Any, length: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="steps"):
        learning.train(classifier(model), data(8), **(settings(epochs=None) | length))


def test_nothing_to_train_on_is_an_error_where_steps_are_asked_for(model: Any) -> None:
    nothing = data(8).take([])
    assert learning.train(classifier(model), nothing, **settings())["steps"] == 0
    with pytest.raises(ValueError, match="nothing"):
        learning.train(classifier(model), nothing, **settings(epochs=None, steps=5))


def test_a_loss_of_ones_own_follows_the_same_steps_as_the_cross_entropy(model: Any) -> None:
    """The loop does not depend on who computes the gradients: without dropout, both ways give the same weights."""
    examples, plan = data(40), [np.arange(at, at + 8) for at in (0, 8, 16, 24, 32)] * 4
    own, plain = classifier(model, dropout=0.0), classifier(model, dropout=0.0)

    def loss(rows: Any, step: int) -> torch.Tensor:
        encoded = own.tokenizer(list(examples.inputs.take(rows).texts), padding=True, return_tensors="pt")
        gold = torch.from_numpy(examples.labels[rows])
        return torch.nn.functional.cross_entropy(learning.logits(own.model, encoded), gold)

    groups = [{"params": list(own.model.parameters()), "lr": 1e-3}]
    before = torch.get_rng_state()
    notes = learning.minimise(own, groups, plan, loss, seed=0)
    assert torch.equal(before, torch.get_rng_state()) and not own.model.training
    optimiser = torch.optim.AdamW(plain.model.parameters(), weight_decay=0.0)
    for step, rows in enumerate(plan):
        optimiser.param_groups[0]["lr"] = 1e-3 * schedule(step, len(plan), 0.1)
        encoded = plain.tokenizer(list(examples.inputs.take(rows).texts), padding=True, return_tensors="pt")
        gold = torch.from_numpy(examples.labels[rows])
        torch.nn.functional.cross_entropy(plain.model(**encoded).logits, gold).backward()
        torch.nn.utils.clip_grad_norm_(plain.model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    assert torch.allclose(weights(own), weights(plain), atol=2e-4)
    assert notes["steps"] == 20 and notes["last_loss"] < notes["first_loss"]


def test_groups_have_rates_of_their_own_and_hooks_see_every_step() -> None:
    quick, lazy = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    optimiser = torch.optim.SGD([{"params": [quick], "lr": 0.1}, {"params": [lazy], "lr": 0.01}])
    order: list[tuple[Any, ...]] = []

    def gradients(rows: Any, step: int) -> torch.Tensor:
        loss = quick.sum() + lazy.sum()
        loss.backward()
        return loss.detach()

    loop = Loop(
        4,
        warmup=0.0,
        max_grad_norm=10.0,
        after_backward=lambda share: order.append(("backward", share, float(quick.grad))),
        after_step=lambda step: order.append(("step", step)),
    )
    progress = loop.run(optimiser, [quick, lazy], passes=[[np.arange(2)] * 4], gradients=gradients)
    assert progress.shares == [1.0, 0.75, 0.5, 0.25]
    assert quick.item() == pytest.approx(1 - 0.1 * 2.5) and lazy.item() == pytest.approx(1 - 0.01 * 2.5)
    assert order[:3] == [("backward", 0.0, 1.0), ("step", 0), ("backward", 0.25, 1.0)] and len(order) == 8
    assert quick.grad is None


def test_there_is_one_schedule() -> None:
    """Whoever trains with AdamW on a schedule uses the shared loop; other optimisers are the methods' own."""
    root = Path(__file__).parents[2]
    files = [path for folder in ("bench", "attacks", "defenses") for path in (root / folder).rglob("*.py")]
    wrong = [path.name for path in files if "LambdaLR" in (text := path.read_text()) or "torch.optim.AdamW(" in text]
    assert sorted(wrong) == ["language_model.py", "loop.py"]


@pytest.mark.skipif(memory._glibc() is None, reason="another C library gives memory back in its own way")
def test_a_training_touches_its_memory_once() -> None:
    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.zeros(16 << 20)  # 64 MB
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with memory.kept("cpu"):
        inside = [faults() for _ in range(6)]
    assert 4 * min(inside) < faults(), inside
