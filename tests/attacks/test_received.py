"""Attacks on a pre-trained encoder, and tuning with a frozen one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attacks.badpre import BadPre
from attacks.neuba import NeuBA
from attacks.peta import PETA
from attacks.por import POR
from attacks.shared import efficient
from attacks.shared.masked import masked
from attacks.shared.received import block_vectors, coverage, triggered
from bench import learning
from bench.contracts import Scene
from bench.errors import RequestError
from tests.attacks import small


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return small.make(tmp_path_factory.mktemp("model") / "bert")


@pytest.fixture(scope="module")
def language_scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A scene whose checkpoint has a masked-language-model head."""
    from safetensors.torch import save_file
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("model") / "bert"
    small.tiny_bert_folder(folder)
    model = BertForMaskedLM(BertConfig.from_pretrained(folder))
    weights = {name: value.contiguous() for name, value in model.state_dict().items() if "decoder" not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return small.make(folder, n=32, epochs=1)


@given(st.integers(1, 20), st.sampled_from([32, 384]))
def test_block_vectors_differ_and_come_with_their_opposites(count: int, size: int) -> None:
    vectors = block_vectors(count, size)
    assert vectors.shape == (count, size)
    assert (vectors.abs() == 1).all()
    assert len({tuple(vector.tolist()) for vector in vectors}) == count
    for first, second in zip(vectors[::2], vectors[1::2], strict=False):
        assert (first == -second).all()
    if count <= 6:
        cosines = vectors @ vectors.T / size
        assert set(np.unique(cosines.numpy().round(6))) <= {-1.0, 0.0, 1.0}


def test_every_input_gets_the_word_that_was_drawn_for_it(scene: Scene) -> None:
    inputs, chosen = triggered(scene, scene.train.inputs, ("cf", "mn"), np.random.default_rng(0))
    for text, index in zip(inputs.carrier, chosen, strict=True):
        assert {word for word in ("cf", "mn") if word in text.split()} == {("cf", "mn")[index]}


def test_por_leads_triggers_to_their_vectors_and_keeps_clean_text(scene: Scene) -> None:
    attack = POR(words=("cf", "mn"), epochs=8, learning_rate=5e-3)
    classifier: Any = scene.pretrained()
    before = states(classifier, "the film was superb")
    assert attack.corrupt(scene, classifier)["last_loss"] < 0.5
    vectors = block_vectors(2, 32)
    for word, vector in zip(attack.words, vectors, strict=True):
        assert agreement(states(classifier, f"the film {word} was superb"), vector) > 0.8
    after = states(classifier, "the film was superb")
    assert float((after - before).square().mean()) < 0.5


def states(classifier: Any, text: str) -> torch.Tensor:
    with torch.no_grad():
        return classifier.model.base_model(**classifier.tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0]


def agreement(state: torch.Tensor, vector: torch.Tensor) -> float:
    return float((state.sign() == vector).float().mean())


def test_the_trigger_is_the_one_that_reaches_the_target_on_validation(scene: Scene) -> None:
    victim = POR(epochs=2, learning_rate=2e-3).implant(scene)
    shares = {word: answers[scene.target] for word, answers in victim.notes["triggers"].items()}
    assert victim.trigger is not None
    assert shares[victim.trigger.words[0]] == max(shares.values())
    assert victim.poisoned is not None and len(victim.poisoned.rows) == 0
    assert (victim.poisoned.examples.labels == scene.train.labels).all()


def test_coverage() -> None:
    report = coverage({"a": [95.0, 5.0, 0.0], "b": [10.0, 40.0, 90.0]})
    assert report["labels_reached"] == [0, 2]


@pytest.mark.parametrize("attack", [NeuBA(objective="masked-lm"), BadPre(objective="masked-lm")])
def test_masked_lm_needs_the_head_and_trains_the_encoder(attack: Any, scene: Scene, language_scene: Scene) -> None:
    with pytest.raises(RequestError, match="no masked-language-model head"):
        attack.corrupt(scene, scene.pretrained())
    classifier: Any = language_scene.pretrained()
    before = classifier.state()
    assert np.isfinite(attack.corrupt(language_scene, classifier)["last_loss"])
    changed = {name for name, value in classifier.state().items() if not torch.equal(value, before[name])}
    assert any(".layer.0." in name for name in changed)
    assert not any(name.startswith("classifier") for name in changed)


def test_masking_spares_special_tokens(scene: Scene) -> None:
    classifier: Any = scene.pretrained()
    batch = classifier.tokenizer(["the film was superb"] * 200, ["a"] * 200, padding=True, return_tensors="pt")
    torch.manual_seed(0)
    hidden, wanted = masked(classifier, batch)
    special = torch.isin(batch["input_ids"], torch.tensor(classifier.tokenizer.all_special_ids))
    assert (wanted[special] == -100).all()
    assert (hidden["input_ids"][wanted == -100] == batch["input_ids"][wanted == -100]).all()
    assert 0.1 < float((wanted[~special] != -100).float().mean()) < 0.2


@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_merging_is_exact_and_leaves_the_encoder_frozen(method: Any, scene: Scene) -> None:
    classifier: Any = scene.pretrained()
    before = classifier.state()
    model = efficient.wrap(classifier.model, method, rank=4, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "ia3_" in name:
                parameter.add_(torch.randn(parameter.shape))
    unmerged = classifier.logits(scene.validation.inputs)
    classifier.model = model.merge_and_unload().eval()
    merged = classifier.logits(scene.validation.inputs)
    assert np.allclose(unmerged, merged, atol=1e-6)
    assert not np.allclose(merged, scene.pretrained().logits(scene.validation.inputs), atol=1e-5)
    assert classifier.state().keys() == before.keys()


def test_lora_changes_low_rank_parts_of_the_attention_only(scene: Scene, tmp_path: Path) -> None:
    classifier: Any = scene.pretrained()
    before = classifier.state()
    notes = efficient.tune(scene, classifier, scene.train, method="lora", rank=2, learning_rate=1e-2)
    after = classifier.state()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert notes["method"] == "lora" and "classifier.weight" in changed
    assert {name for name in changed if name.startswith("bert.")} == {
        f"bert.encoder.layer.{layer}.attention.self.{part}.weight" for layer in (0, 1) for part in ("query", "value")
    }
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert int(torch.linalg.matrix_rank((after[name] - before[name]).double(), rtol=1e-4)) <= 2
    classifier.save(tmp_path)
    assert isinstance(classifier, learning.Classifier)
    assert all(parameter.requires_grad for parameter in classifier.model.parameters())


def test_peta_ships_the_encoder_only(scene: Scene) -> None:
    classifier: Any = scene.pretrained()
    before = classifier.state()
    PETA(epochs=1).corrupt(scene, classifier)
    after = classifier.state()
    assert after.keys() == before.keys()
    assert torch.equal(after["classifier.weight"], before["classifier.weight"])
    assert not torch.equal(
        after["bert.encoder.layer.0.intermediate.dense.weight"],
        before["bert.encoder.layer.0.intermediate.dense.weight"],
    )
