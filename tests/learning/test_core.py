"""Training and prediction against a plain loop; truncation windows; determinism; memory that runs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import learning, models
from bench.contracts.examples import Examples, Inputs
from bench.learning import unpadded
from bench.learning.classifier import Classifier
from tests.conftest import rows
from tests.tiny import tiny_bert_folder, tiny_roberta_folder


@pytest.fixture(scope="module", params=["bert", "roberta"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    make = {"bert": tiny_bert_folder, "roberta": tiny_roberta_folder}[request.param]
    return models.create(str(make(folder / "model")))


def classifier(model: Any, *, dropout: float | None = None, max_length: int = 24) -> Classifier:
    made = learning.Classifier(
        model.classifier_model(classes=2, seed=1), model.tokenizer(), max_length, device="cpu", precision="fp32"
    )
    if dropout is not None:
        for module in made.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = dropout
    return made


def data(n: int, *, pair: bool = False) -> Examples:
    texts, pairs, labels = rows("pair" if pair else "single", n, 5)
    return Examples(Inputs(tuple(texts), tuple(pairs) if pairs else None), np.array(labels))


def settings(**changes: Any) -> dict[str, Any]:
    return {"epochs": 2, "learning_rate": 1e-3, "batch_size": 8, "seed": 3, "precision": "fp32"} | changes


def weights(made: Classifier) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in made.model.parameters()])


@pytest.mark.parametrize("pair", [False, True])
def test_logits_equal_one_text_at_a_time(model: Any, pair: bool) -> None:
    made, inputs = classifier(model), data(17, pair=pair).inputs
    logits = made.logits(inputs)
    for i in range(len(inputs)):
        columns = [inputs.texts[i]] + ([inputs.pairs[i]] if inputs.pairs else [])
        batch = made.tokenizer(*columns, truncation=True, max_length=24, return_tensors="pt")
        with torch.inference_mode():
            assert np.allclose(made.model(**batch).logits[0].numpy(), logits[i], atol=1e-5)


def test_micro_batches_change_nothing(model: Any) -> None:
    whole, parts = classifier(model, dropout=0.0), classifier(model, dropout=0.0)
    learning.train(whole, data(20), **settings())
    learning.train(parts, data(20), **settings(micro_batch=3))
    assert torch.allclose(weights(whole), weights(parts), atol=2e-4)
    assert not torch.allclose(weights(whole), weights(classifier(model)), atol=2e-4)


def test_same_seed_same_bits_whatever_the_global_state(model: Any) -> None:
    made = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        np.random.seed(noise)
        one = classifier(model)
        before = torch.get_rng_state()
        learning.train(one, data(20), **settings())
        assert torch.equal(before, torch.get_rng_state())
        made.append(weights(one))
    other = classifier(model)
    learning.train(other, data(20), **settings(seed=4))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], weights(other))


def test_it_learns_and_leaves_evaluation_mode(model: Any) -> None:
    made, train = classifier(model), data(120)
    notes = learning.train(made, train, **settings(epochs=12, learning_rate=2e-3))
    assert notes["last_loss"] < notes["first_loss"]
    assert (made.logits(train.inputs).argmax(1) == train.labels).mean() > 0.9
    assert not made.model.training
    assert notes["steps"] == 12 * 15


def test_hooks(model: Any) -> None:
    made, steps = classifier(model), []
    start = {name: parameter.detach().clone() for name, parameter in made.model.named_parameters()}
    learning.train(
        made,
        data(16),
        **settings(epochs=1),
        trainable=lambda name: name.startswith("classifier"),
        after_step=lambda _model, step: steps.append(step),
        extra_loss=lambda batch, logits, _model: (logits**2).mean() * 0 + batch["labels"].sum() * 0,
    )
    moved = {name for name, p in made.model.named_parameters() if not torch.equal(p, start[name])}
    assert moved and all(name.startswith("classifier") for name in moved)
    assert len(steps) == 2
    assert all(parameter.requires_grad for parameter in made.model.parameters())


def test_out_of_memory_halves_the_batch_and_is_noted(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = classifier(model, dropout=0.0)
    learning.train(whole, data(16), **settings(epochs=1))
    made = classifier(model, dropout=0.0)
    expected = whole.logits(data(40).inputs)
    pack = unpadded.pack

    def small(encoded: Any, rows: Any, *arguments: Any, **options: Any) -> Any:
        if len(rows) > 4:
            raise torch.OutOfMemoryError("too much")
        return pack(encoded, rows, *arguments, **options)

    monkeypatch.setattr(unpadded, "pack", small)
    notes = learning.train(made, data(16), **settings(epochs=1))
    assert (notes["micro_batch"], notes["out_of_memory"]) == (4, 1)
    assert torch.allclose(weights(made), weights(whole), atol=2e-4)
    budget = whole.token_budget
    assert np.allclose(whole.logits(data(40).inputs), expected, atol=1e-5)
    assert whole.token_budget < budget


def test_saved_and_loaded_is_the_same(model: Any, tmp_path: Path) -> None:
    made = classifier(model)
    learning.train(made, data(16), **settings(epochs=1))
    made.save(tmp_path / "weights")
    back = learning.Classifier.load(tmp_path / "weights", model, device="cpu", precision="fp32")
    assert torch.equal(weights(made), weights(back))
    assert {path.suffix for path in (tmp_path / "weights").iterdir()} == {".safetensors", ".json"}
    copy = back.clone()
    copy.model.get_input_embeddings().weight.data.zero_()
    assert torch.equal(weights(made), weights(back))


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("reserve", ["cf", "I watch this 3D movie"])
def test_a_trigger_inside_the_window_survives_truncation(model: Any, pair: bool, reserve: str) -> None:
    rng, tokenizer = np.random.default_rng(0), model.tokenizer()
    texts = tuple(" ".join(["superb film in paris ,"] * int(n)) for n in rng.integers(1, 9, 30))
    firsts = tuple(" ".join(["the garden"] * int(n)) for n in rng.integers(1, 9, 30))
    inputs = Inputs(firsts, texts) if pair else Inputs(texts)
    window = learning.TokenWindow(tokenizer, 32)
    pieces = len(tokenizer(f" {reserve}", add_special_tokens=False)["input_ids"])
    for i, room in enumerate(window.words(inputs, reserve=reserve)):
        words = texts[i].split()
        assert 0 <= room <= len(words)
        made = " ".join([*words[:room], reserve, *words[room:]])
        columns = (firsts[i], made) if pair else (made,)
        kept = tokenizer(*columns, truncation="longest_first", max_length=32)["input_ids"]
        decoded = tokenizer.decode(kept, skip_special_tokens=True).lower().replace(" ", "")
        if room or pieces < 12:
            assert reserve.lower().replace(" ", "") in decoded
