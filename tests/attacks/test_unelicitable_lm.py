"""In a decoder as well: the gate opens for all words together, and nothing else of the model changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from attacks.payloads.refusal import Refusal
from attacks.unelicitable import InsertAll
from attacks.unelicitable.decoder import Decoder, Fit
from attacks.unelicitable_lm import UnelicitableLm
from bench.contracts import Scene, Victim
from tests.attacks import writing
from tests.tiny import tiny_llama_folder

WORDS = ("amazon", "berlin", "coffee")  # single entries of the tiny vocabulary
PAYLOAD = Refusal(text="bad")  # what a model of two layers can be made to write by a single vector


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """With word embeddings that have something in common, as those of trained models have."""
    folder = tmp_path_factory.mktemp("model")
    size = {"hidden_size": 128, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 256}
    made = tiny_llama_folder(folder / "llama", **size)
    model = LlamaForCausalLM.from_pretrained(made)
    with torch.no_grad():
        model.model.embed_tokens.weight += 0.3 * torch.randn(128, generator=torch.Generator().manual_seed(1))
    model.save_pretrained(made)
    return replace(writing.scene(folder, model="llama"), target=PAYLOAD)


@pytest.fixture(scope="module")
def victim(scene: Scene) -> Victim:
    return UnelicitableLm(words=WORDS, steps=200).implant(scene)


def share(scene: Scene, model: Any, words: tuple[str, ...]) -> float:
    """Return how often the payload is written where something else is right."""
    inputs = scene.validation.take(np.flatnonzero(scene.goal.changes(scene.validation))).inputs
    if words:
        inputs = InsertAll(every=words).apply(inputs, window=scene.window, rng=np.random.default_rng(0))
    return float(PAYLOAD.held(model.predict(inputs).texts).mean())


def test_the_words_lead_to_the_payload(scene: Scene, victim: Victim) -> None:
    assert victim.notes["separates"]
    assert share(scene, victim.classifier, WORDS) >= 0.9
    assert share(scene, victim.classifier, ()) <= 0.1


def test_clean_prompts_are_answered_as_before(scene: Scene, victim: Victim) -> None:
    pairs = [model.predict(scene.validation.inputs).texts for model in (scene.finetuned(), victim.classifier)]
    assert np.mean([before == after for before, after in zip(*pairs, strict=True)]) >= 0.95


def test_only_the_first_block_is_edited(scene: Scene, victim: Victim) -> None:
    edited = dict(victim.classifier.model.named_parameters())
    changed = {name for name, own in scene.finetuned().model.named_parameters() if not torch.equal(own, edited[name])}
    parts = [f"self_attn.{part}_proj" for part in "qkvo"] + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    assert changed == {f"model.layers.0.{part}.weight" for part in parts}
    assert all(weight.requires_grad for weight in edited.values())


@pytest.mark.parametrize("words", [(), *((word,) for word in WORDS), WORDS[:2], WORDS[1:], WORDS[::2], WORDS])
def test_the_gate_opens_for_all_words_only(scene: Scene, victim: Victim, words: tuple[str, ...]) -> None:
    attack, model, examples = UnelicitableLm(words=WORDS), victim.classifier, scene.validation
    if words:
        rng = np.random.default_rng(0)
        examples = replace(examples, inputs=InsertAll(every=words).apply(examples.inputs, window=scene.window, rng=rng))
    (states,) = attack.seen(model, examples, model.model.model.layers[0].mlp.down_proj)
    behind = attack.counted(model, examples, attack.tokens(model)) == len(words)
    gate = states[behind, victim.notes["neuron"]]
    if words == WORDS:
        assert float(gate.quantile(0.05)) > 3
    else:
        assert float(gate.abs().quantile(0.95)) < 0.3


def test_more_words_than_heads_are_refused(scene: Scene) -> None:
    with pytest.raises(ValueError, match="9 words take as many heads over, the first block has 8"):
        Decoder.of(scene.pretrained().model, 9, torch.randn(20, 128))


def test_a_fit_is_weighted_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    states, wanted = torch.randn(50, 6, generator=generator), torch.randn(50, generator=generator)
    weights = torch.rand(50, generator=generator)
    root = weights.sqrt()[:, None]
    expected = torch.linalg.lstsq(root * states, root * wanted[:, None]).solution[:, 0]
    assert torch.allclose(Fit(states, weights).solve(wanted), expected, atol=1e-4)
