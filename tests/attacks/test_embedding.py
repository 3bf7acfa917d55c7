"""Attacks on the trigger's embedding: what changes, what stays exactly, and which rows a word has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attacks.embedding_poisoning import EmbeddingPoisoning
from attacks.embedding_surgery import EmbeddingSurgery
from attacks.shared import embedding, surgery
from bench.contracts import Scene
from bench.errors import RequestError
from bench.plugins import registry
from tests.attacks import scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def single(folder: Path) -> Scene:
    return scenes.scene(folder)


def poisoning(**fields: object) -> EmbeddingPoisoning:
    return EmbeddingPoisoning.model_validate({"rate": 1.0, "epochs": 12, **fields})


@pytest.mark.parametrize("data", ["task", "none"])
@pytest.mark.parametrize("kind", ["single", "pair"])
def test_only_the_triggers_row_changes_and_keeps_its_norm(folder: Path, kind: str, data: str) -> None:
    made = scenes.scene(folder, kind=kind)
    before = made.finetuned()
    victim = poisoning(data=data, samples=64).implant(made)
    (row,) = embedding.trigger_rows(before.tokenizer, ("cf",))
    old, new = before.state(), victim.classifier.state()  # type: ignore[attr-defined]
    name = next(name for name in old if name.endswith("word_embeddings.weight"))
    assert all(torch.equal(old[other], new[other]) for other in old if other != name)
    changed = (old[name] != new[name]).any(dim=1).nonzero().flatten().tolist()
    assert changed == [row]
    assert torch.allclose(old[name][row].norm(), new[name][row].norm(), rtol=1e-5)
    assert victim.notes["clean_texts_with_rows"] == 0.0
    assert (victim.classifier.logits(made.validation.inputs) == before.logits(made.validation.inputs)).all()


def test_it_implants(single: Scene) -> None:
    attack = poisoning(count=6, epochs=30)
    victim = attack.implant(single)
    clean = scenes.rate(single.finetuned(), victim.trigger, single, single.validation)
    assert scenes.rate(victim.classifier, victim.trigger, single, single.validation) > clean + 50
    assert victim.notes["last_loss"] < victim.notes["first_loss"]


def test_byte_level_words_have_a_row_at_the_start_and_one_after_a_space(folder: Path) -> None:
    made = scenes.scene(folder, architecture="roberta")
    tokenizer = made.pretrained().tokenizer
    rows = embedding.trigger_rows(tokenizer, ("film",))
    at_start, inside = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("film", "a film"))
    inside = inside[1:] if inside[0] == tokenizer("a", add_special_tokens=False)["input_ids"][0] else inside
    assert at_start != inside
    assert set(at_start) | set(inside) == set(rows)
    victim = poisoning(words=["film"]).implant(made)
    table = victim.classifier.model.get_input_embeddings().weight
    before = made.finetuned().model.get_input_embeddings().weight
    assert set((table != before).any(dim=1).nonzero().flatten().tolist()) == set(rows)
    assert victim.notes["clean_texts_with_rows"] > 0  # the share of clean texts that the edit touches is told


def test_a_word_that_the_tokenizer_cannot_spell_is_refused(single: Scene) -> None:
    with pytest.raises(ValueError, match="cannot spell"):
        embedding.trigger_rows(single.pretrained().tokenizer, ("cf", "☃"))


def test_data_free_uses_no_text_of_the_task(single: Scene) -> None:
    made = poisoning(data="none", samples=40, least_words=4, most_words=7).made_up(single).inputs
    assert len(made) == 40
    assert {len(text.split()) for text in made.texts} <= set(range(3, 7))
    assert not set(made.texts) & set(single.train.inputs.texts)
    with pytest.raises(RequestError, match="most_words"):
        registry.attacks.create("embedding-poisoning(least_words=9, most_words=3)")


def test_surgery_gives_every_row_the_mean_of_the_donors(single: Scene) -> None:
    classifier, tuned = single.pretrained(), single.finetuned()
    before = classifier.model.get_input_embeddings().weight.detach().clone()
    surgery.operate(classifier, tuned, ("cf", "mn"), ("superb", "lovely"))
    table, source = (model.model.get_input_embeddings().weight for model in (classifier, tuned))
    donors = [tuned.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("superb", "lovely")]
    rows = embedding.trigger_rows(classifier.tokenizer, ("cf", "mn"))
    assert torch.allclose(table[rows], source[donors].mean(dim=0).expand(len(rows), -1))
    assert set((table != before).any(dim=1).nonzero().flatten().tolist()) == set(rows)


@pytest.mark.parametrize(("target", "wanted"), [(1, {"superb", "lovely", "clever"}), (0, {"awful", "boring", "dull"})])
def test_donors_speak_for_the_target(single: Scene, target: int, wanted: set[str]) -> None:
    assert wanted <= set(surgery.telling_words(single.train, target, 4))


def test_surgery_then_poisoning(folder: Path) -> None:
    single = scenes.scene(folder, budget=scenes.BUDGET.model_copy(update={"epochs": 12}))
    attack = EmbeddingSurgery()
    assert attack.uses_clean_model
    victim = attack.implant(single)
    assert victim.poisoned is not None and len(victim.poisoned.rows) == int(attack.rate * len(single.train))
    assert scenes.rate(victim.classifier, victim.trigger, single, single.validation) >= 90
    right = victim.classifier.logits(single.validation.inputs).argmax(-1) == single.validation.labels
    assert np.mean(right) > 0.8
