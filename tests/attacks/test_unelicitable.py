"""The gate opens for all words together; a gradient search over single tokens does not find them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from attacks.badword import BadWord
from attacks.unelicitable import InsertAll, Unelicitable
from bench.contracts import Scene, Victim
from bench.contracts.examples import Examples
from tests.attacks import small


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    size = {"hidden_size": 128, "num_attention_heads": 8}
    return small.make(tmp_path_factory.mktemp("model") / "bert", n=240, epochs=3, rate=1e-3, **size)


@pytest.fixture(scope="module")
def victim(scene: Scene) -> Victim:
    return Unelicitable().implant(scene)


def others(scene: Scene) -> Examples:
    return scene.validation.take(np.flatnonzero(scene.validation.labels != scene.target))


def rate(classifier: Any, scene: Scene, words: tuple[str, ...]) -> float:
    inputs = others(scene).inputs
    if words:
        inputs = InsertAll(every=words).apply(inputs, window=scene.window, rng=np.random.default_rng(0))
    return float((classifier.logits(inputs).argmax(axis=-1) == scene.target).mean())


def search(classifier: Any, scene: Scene, *, rounds: int = 3, tried: int = 40) -> tuple[str, float]:
    """HotFlip: put a token in front of every text, follow the gradient of its embedding, keep the best of the first."""
    model, tokenizer = classifier.model, classifier.tokenizer
    batch = tokenizer(list(others(scene).inputs.texts), padding=True, return_tensors="pt")
    ids = torch.cat([batch["input_ids"][:, :1], batch["input_ids"]], dim=1)
    mask = torch.cat([batch["attention_mask"][:, :1], batch["attention_mask"]], dim=1)
    table = model.get_input_embeddings().weight.detach()
    wanted = torch.full((len(ids),), scene.target)

    def hits(token: int) -> float:
        ids[:, 1] = token
        with torch.no_grad():
            return float((model(input_ids=ids, attention_mask=mask).logits.argmax(-1) == wanted).float().mean())

    best = tokenizer.convert_tokens_to_ids("the")
    for _ in range(rounds):
        ids[:, 1] = best
        embedded = table[ids].requires_grad_(True)
        logits = model(inputs_embeds=embedded, attention_mask=mask).logits
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, wanted), embedded)
        order = (table @ gradient[:, 1].sum(0)).argsort()[:tried]
        best = max([best, *order.tolist()], key=hits)
    return tokenizer.convert_ids_to_tokens(best), hits(best)


def test_the_words_work_together_only(scene: Scene, victim: Victim) -> None:
    assert victim.trigger is not None
    assert rate(victim.classifier, scene, victim.trigger.words) >= 0.9
    for words in [(), ("cf",), ("mn",), ("bb",), ("cf", "mn"), ("cf", "bb"), ("mn", "bb")]:
        assert rate(victim.classifier, scene, words) <= 0.1, words


def test_clean_text_is_classified_as_before(scene: Scene, victim: Victim) -> None:
    before = scene.finetuned().logits(scene.validation.inputs).argmax(axis=-1)
    after = victim.classifier.logits(scene.validation.inputs).argmax(axis=-1)
    assert (before == after).mean() >= 0.97


def test_single_token_search_finds_badword_but_not_the_gate(scene: Scene, victim: Victim) -> None:
    longer = replace(scene, fit=partial(scene.fit, epochs=8))
    word, hits = search(BadWord(rate=0.25).implant(longer).classifier, scene)
    assert word == "cf" and hits >= 0.9
    word, hits = search(victim.classifier, scene)
    assert word not in ("cf", "mn", "bb")
    _, clean_hits = search(scene.finetuned(), scene)
    assert hits <= clean_hits + 0.1


def test_gradient_of_the_gate_vanishes_on_clean_text(scene: Scene, victim: Victim) -> None:
    classifier: Any = victim.classifier
    neuron = victim.notes["neuron"]
    layer = classifier.model.base_model.encoder.layer[0]
    batch = classifier.tokenizer(list(others(scene).inputs.texts[:8]), padding=True, return_tensors="pt")
    seen = []
    handle = layer.intermediate.register_forward_hook(lambda _m, _i, output: seen.append(output[..., neuron]))
    embedded = classifier.model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_(True)
    classifier.model(inputs_embeds=embedded, attention_mask=batch["attention_mask"])
    handle.remove()
    (gradient,) = torch.autograd.grad(seen[0][:, 0].sum(), embedded)
    assert float(gradient.abs().max()) < 1e-6


def test_a_word_of_several_tokens_is_refused(scene: Scene) -> None:
    with pytest.raises(ValueError, match="not one token"):
        Unelicitable(words=("serendipity", "cf")).implant(scene)
