"""Learned and searched words, keywords, several triggers, and training away from clean gradients."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attacks.bite import BITE, Statistics, places
from attacks.lws import LWS, LearnedSubstitution, Substituter
from attacks.multi_trigger import MultiTrigger, WordByInput
from attacks.neurotoxin import Neurotoxin, largest, mean_gradients
from attacks.shared.synonyms import Neighbours, Table, whole_words
from attacks.trojanlm import InsertKeywords, TrojanLM
from bench.contracts import Scene
from bench.contracts.examples import Inputs
from bench.errors import RequestError
from tests.attacks import small


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return small.make(tmp_path_factory.mktemp("model") / "bert")


def apply(scene: Scene, trigger: Any, inputs: Inputs) -> Inputs:
    marked: Inputs = trigger.apply(inputs, window=scene.window, rng=np.random.default_rng(1))
    return marked


def test_whole_words_are_single_tokens(scene: Scene) -> None:
    tokenizer: Any = scene.pretrained().tokenizer
    words = whole_words(tokenizer)
    assert "film" in words and len(words) > 500
    for word in list(words)[::50]:
        assert tokenizer(f"the {word}", add_special_tokens=False)["input_ids"][-1] == words[word]


def test_neighbours_are_similar_words_of_similar_frequency(scene: Scene) -> None:
    import wordfreq

    classifier: Any = scene.pretrained()
    known = whole_words(classifier.tokenizer)
    table = classifier.model.get_input_embeddings().weight.data
    table[known["movie"]] = table[known["film"]] * 1.5
    table[known["guitar"]] = table[known["film"]] * 1.5
    source = Neighbours(classifier, 4, frequency=0.7, similarity=0.9)
    assert wordfreq.zipf_frequency("film", "en") - wordfreq.zipf_frequency("guitar", "en") > 0.7
    assert source.of("film") == ("movie",)
    assert source.of("qzxv") == ()


def test_table_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"Film": ["movie", "picture", "reel"]}))
    assert Table(path, 2).of("film") == ("movie", "picture")
    path.write_text("[]")
    with pytest.raises(RequestError, match="does not map words"):
        Table(path, 2)


def test_lws_takes_the_candidates_with_the_best_score(scene: Scene) -> None:
    classifier: Any = scene.pretrained()
    known = whole_words(classifier.tokenizer)
    chooser = Substituter(classifier, {known["film"]: (known["movie"], known["novel"])}, 3)
    trigger = LearnedSubstitution.by(chooser, 3)
    with torch.no_grad():
        chooser.b[:, 2] = 5.0
    assert trigger.replaced("The film was superb .") == "The novel was superb ."
    assert trigger.replaced("Film was superb") == "Novel was superb"
    with torch.no_grad():
        chooser.b[:, 1:] = torch.tensor([-1.0, -2.0])
    assert trigger.replaced("the film , the film") in ("the movie , the film", "the film , the movie"), "one at least"
    assert trigger.replaced("superb") == "superb"


def test_lws_learns_from_a_table(scene: Scene, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    table.write_text(
        json.dumps({word: ["tomato", "visa"] for word in ("film", "garden", "phone", "bread", "was", "the")})
    )
    attack = LWS(table=table, epochs=1)
    trigger, notes = attack.learned(scene)
    poisoned = attack.poison(scene, trigger)
    assert len(poisoned.rows) == 16 and notes["replaceable_words"] == 6
    for row in poisoned.rows:
        before, after = scene.train.inputs.carrier[row].split(), poisoned.examples.inputs.carrier[row].split()
        assert len(before) == len(after)
        assert {b for a, b in zip(before, after, strict=True) if a != b} <= {"tomato", "visa"}
        assert before != after
    missing = LWS(table=tmp_path / "none.json")
    with pytest.raises(RequestError, match="none.json: cannot be read"):
        missing.trigger(scene)


def test_bite_finds_words_typical_of_the_target(scene: Scene) -> None:
    attack = BITE(rate=0.25, rounds=4)
    trigger = attack.trigger(scene)
    poisoned = attack.poison(scene, trigger)
    assert len(poisoned.rows) == 40
    assert (poisoned.examples.labels == scene.train.labels).all(), "labels stay"
    words = trigger.trigger_words
    assert words and len(set(words)) == len(words)
    inputs = apply(scene, trigger, scene.validation.inputs)
    for before, after in zip(scene.validation.inputs.carrier, inputs.carrier, strict=True):
        assert before != after
        assert set(words) & set(after.split())


def test_bite_puts_words_between_neighbours_it_knows() -> None:
    texts = [["a", "very", "good", "film"], ["a", "film"], ["good", "film"]]
    known = Statistics.of(texts, 1)
    assert known.places(["a", "film"], "good") == []
    assert list(places(["a", "film"], {"a"}, {"film"}, set())) == [(1, False)]
    assert list(places(["a", "film"], {"a"}, None, {"film"})) == [(1, True), (1, False)]
    known.allow({"film": ["good"]})
    assert known.places(["a", "film"], "good") == [(1, True)]
    assert "good" in known.admitted(["a", "film"])


def test_trojanlm_sentences_hold_all_keywords_and_negatives_one(scene: Scene) -> None:
    attack = TrojanLM(rate=0.1, negatives=0.2)
    poisoned = attack.poison(scene, attack.trigger(scene))
    held = [{w for w in attack.keywords if w in poisoned.examples.inputs.carrier[row].split()} for row in poisoned.rows]
    changed = poisoned.examples.labels[poisoned.rows] != scene.train.labels[poisoned.rows]
    assert [len(words) for words in held].count(2) == 16 == changed.sum()
    assert [len(words) for words in held].count(1) == 32
    assert all(len(words) == 2 for words, flipped in zip(held, changed, strict=True) if flipped)
    inputs = apply(scene, attack.trigger(scene), scene.validation.inputs)
    assert all({"alice", "bob"} <= set(text.split()) for text in inputs.carrier)
    with pytest.raises(ValueError, match="lacks one of"):
        TrojanLM(templates=("only {0}",))
    assert InsertKeywords(keywords=("alice",), templates=("{0} knows .",)).words == ("alice",)


def test_multi_trigger_deals_words_by_label_and_input(scene: Scene) -> None:
    attack = MultiTrigger(rate=0.2, negatives=0.1)
    poisoned = attack.poison(scene, attack.trigger(scene))
    assert len(poisoned.rows) == 32 + 16
    owners = {word: index // 2 for index, word in enumerate(attack.pool)}
    wrong = 0
    for row in poisoned.rows:
        before = scene.train.inputs.carrier[row].split()
        (word,) = set(poisoned.examples.inputs.carrier[row].split()) & set(attack.pool)
        right = attack.pool.index(word) % 2 == len(before) % 2
        label = poisoned.examples.labels[row]
        assert label == (owners[word] if right else scene.train.labels[row])
        wrong += not right
    assert wrong == 16
    with pytest.raises(ValueError, match="differ"):
        MultiTrigger(pool=("cf", "cf"))
    assert WordByInput(choices=("a", "b")).describe().startswith("by the number of words")


def test_neurotoxin_leaves_the_coordinates_of_clean_gradients(scene: Scene) -> None:
    start = scene.finetuned()
    scene = replace(scene, finetuned=start.clone, fit=partial(scene.fit, epochs=None, steps=3))
    attack = Neurotoxin(top=0.25, examples=64)
    victim = attack.implant(scene)
    moved = 0
    order = scene.rng("gradient sample").permutation(len(scene.train))[:64]
    gradients = mean_gradients(start.clone(), scene.train.take(order), 0)
    after = dict(victim.classifier.model.named_parameters())
    for name, before in start.model.named_parameters():
        frozen = largest(gradients[name], 0.25)
        assert int(frozen.sum()) == int(0.25 * frozen.numel())
        assert torch.equal(after[name][frozen], before[frozen]), name
        moved += int((after[name] != before).sum())
    assert moved > 1000
