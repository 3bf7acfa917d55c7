"""The padding-free pass against transformers' own, in float32; training of the used words against the whole table."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from bench import learning, models
from bench.contracts.examples import Examples, Inputs
from bench.learning import packed, unpadded
from bench.learning.batches import collate
from bench.learning.tokens import encode
from defenses.shared.adapters import adapt
from defenses.shared.encoder import cls_attention
from tests.learning.test_core import classifier, data, settings, weights
from tests.tiny import tiny_bert_folder, tiny_modernbert_folder, tiny_mpnet_folder, tiny_roberta_folder

LIKE_BERT = {"bert": tiny_bert_folder, "roberta": tiny_roberta_folder, "mpnet": tiny_mpnet_folder}
MODERN: dict[str, Callable[[Path], Path]] = {
    "modernbert": tiny_modernbert_folder,
    "modernbert-mean": partial(tiny_modernbert_folder, classifier_pooling="mean", norm_bias=True, attention_bias=True),
    "modernbert-dropout": partial(tiny_modernbert_folder, attention_dropout=0.1, mlp_dropout=0.1),
}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    @functools.cache
    def make(name: str) -> Any:
        return models.create(str((LIKE_BERT | MODERN)[name](tmp_path_factory.mktemp(name) / "model")))

    return make


@pytest.fixture(params=[*LIKE_BERT, "modernbert", "modernbert-mean"])
def model(request: pytest.FixtureRequest, made_once: Callable[[str], Any]) -> Any:
    return made_once(request.param)


@pytest.fixture(params=LIKE_BERT)
def like_bert(request: pytest.FixtureRequest, made_once: Callable[[str], Any]) -> Any:
    return made_once(request.param)


@pytest.fixture(params=[*LIKE_BERT, "modernbert-dropout"])
def with_dropout(request: pytest.FixtureRequest, made_once: Callable[[str], Any]) -> Any:
    return made_once(request.param)


def ragged(n: int, *, pair: bool, pad: str = "") -> Examples:
    examples = data(n, pair=pair)
    texts = [" ".join([text, pad][: 1 + (i % 4 == 0)] * (1 + i % 3)) for i, text in enumerate(examples.inputs.texts)]
    return Examples(Inputs(tuple(texts), examples.inputs.pairs), examples.labels)


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("literal", [False, True])
def test_logits_and_gradients_are_the_models_own(model: Any, pair: bool, literal: bool) -> None:
    made = classifier(model)
    examples = ragged(13, pair=pair, pad=made.tokenizer.pad_token if literal else "")
    encoded, rows = encode(made.tokenizer, examples.inputs, 24), np.arange(13)
    gold = torch.from_numpy(examples.labels.copy())
    results = []
    padded = collate(encoded, rows, made.model.config.pad_token_id)
    passes = (
        lambda: made.model(**padded).logits,
        lambda: packed.logits(made.model, unpadded.pack(encoded, rows, made.model), dtype=torch.float32),
        lambda: learning.logits(made.model, padded),
    )
    for run in passes:
        made.model.zero_grad()
        out = run()
        torch.nn.functional.cross_entropy(out, gold).backward()
        gradients = {n: p.grad.clone() for n, p in made.model.named_parameters() if p.grad is not None}
        results.append((out.detach(), gradients))
    for other in results[1:]:
        assert torch.allclose(results[0][0], other[0], atol=1e-6)
        for name, gradient in results[0][1].items():
            if name.endswith(("word_embeddings.weight", "tok_embeddings.weight")):
                # transformers drops the gradient of padding tokens in a text
                gradient, other[1][name] = gradient[2:], other[1][name][2:]
            assert torch.allclose(gradient, other[1][name], atol=1e-6), name
    states = made.model.base_model(**padded).last_hidden_state
    assert torch.allclose(learning.first_token_last_block(made.model, padded), states[:, 0], atol=1e-6)
    real = states[padded["attention_mask"].bool()]
    assert torch.allclose(learning.states(made.model, padded), real, atol=1e-6)


@pytest.fixture(params=["known architecture", "any other"])
def passes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a test run with the pass without padding, and with that of transformers."""
    if request.param == "any other":
        monkeypatch.setattr(packed, "supports", lambda model: False)


@pytest.mark.usefixtures("passes")
def test_block_states_are_the_models_own(model: Any) -> None:
    made = classifier(model)
    padded = collate(encode(made.tokenizer, ragged(9, pair=False).inputs, 24), np.arange(9), 1)
    expected = made.model(**padded, output_hidden_states=True)
    states, logits = learning.block_states(made.model, padded)
    real = padded["attention_mask"].bool()
    assert torch.allclose(logits, expected.logits, atol=1e-6)
    assert len(states) == len(expected.hidden_states) == len(learning.blocks(made.model)) + 1
    norm = getattr(made.model.base_model, "final_norm", torch.nn.Identity())  # transformers' last state is behind it
    for own, other in zip([*states[:-1], norm(states[-1])], expected.hidden_states, strict=True):
        assert torch.allclose(own[real], other[real], atol=1e-6)
        assert (own[~real] == 0).all()


def test_what_the_first_token_attends_to_is_the_models_own(like_bert: Any) -> None:
    made = classifier(like_bert)
    padded = collate(encode(made.tokenizer, ragged(9, pair=False).inputs, 24), np.arange(9), 1)
    states, _ = learning.block_states(made.model, padded)
    attention = cls_attention(made.model, states[:-1], padded["attention_mask"])
    made.model.set_attn_implementation("eager")
    expected = made.model(**padded, output_attentions=True).attentions
    assert torch.allclose(attention, torch.stack([maps[:, :, 0] for maps in expected]), atol=1e-6)


def test_segment_numbers_go_only_to_models_that_tell_segments_apart(tmp_path: Path) -> None:
    """Whatever a tokenizer says: this one numbers the second segment and calls the numbers an input."""
    for make, apart in ((tiny_bert_folder, True), (tiny_roberta_folder, False), (tiny_mpnet_folder, False)):
        folder = make(tmp_path / make.__name__)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        first, last = ("[CLS]", "[SEP]") if apart else ("<s>", "</s>")
        special = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
        both = f"{first} $A {last} $B:1 {last}:1"
        tokenizer.post_processor = TemplateProcessing(single=f"{first} $A {last}", pair=both, special_tokens=special)
        tokenizer.save(str(folder / "tokenizer.json"))
        settings |= {"tokenizer_class": "PreTrainedTokenizerFast"}
        settings |= {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        made = classifier(models.create(str(folder)))
        encoded = encode(made.tokenizer, ragged(7, pair=True).inputs, 24)
        assert (encoded.types is not None and 1 in encoded.types) is apart
        padded = collate(encoded, np.arange(7), made.model.config.pad_token_id)
        assert ("token_type_ids" in padded) is ("token_type_ids" in made.tokenizer("a", "b")) is apart
        assert torch.allclose(learning.logits(made.model, padded), made.model(**padded).logits, atol=1e-6)


@pytest.mark.usefixtures("passes")
def test_word_embeddings_can_be_given(model: Any) -> None:
    made = classifier(model)
    padded = collate(encode(made.tokenizer, ragged(9, pair=False).inputs, 24), np.arange(9), 1)
    words = made.model.get_input_embeddings()(padded["input_ids"]).detach().requires_grad_(True)
    expected = made.model(**padded)
    logits = learning.logits(made.model, padded, embeddings=words)
    assert torch.allclose(logits, expected.logits, atol=1e-6)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), words)
    assert (gradient.abs().sum(-1) > 0).eq(padded["attention_mask"].bool()).all()
    first = made.model.base_model(**padded).last_hidden_state[:, 0]
    assert torch.allclose(learning.first_token_last_block(made.model, padded, embeddings=words), first, atol=1e-6)


@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize("whole", [False, True])
def test_an_edit_acts_where_a_hook_on_the_block_would(model: Any, whole: bool) -> None:
    made = classifier(model)
    padded = collate(encode(made.tokenizer, ragged(9, pair=False).inputs, 24), np.arange(9), 1)
    parts, tokens, seen = learning.blocks(made.model), int(padded["attention_mask"].sum()), {}

    def edit(number: int, states: torch.Tensor) -> torch.Tensor:
        seen[number] = len(states)
        return states * (1.5 if number else 1.0)

    logits = learning.logits(made.model, padded, edit=edit, whole=whole)
    assert seen.pop(len(parts)) in ({tokens} if whole else {9, tokens})
    assert seen == dict.fromkeys(range(len(parts)), tokens)
    for part in parts:
        part.register_forward_hook(
            lambda _part, _held, out: (out[0] * 1.5, *out[1:]) if type(out) is tuple else out * 1.5
        )
    assert torch.allclose(logits, made.model(**padded).logits, atol=1e-5)


def test_adapted_weights_are_read_like_plain_ones(like_bert: Any) -> None:
    made = classifier(like_bert)
    for adapter in adapt(made.model, rank=2, alpha=4.0, seed=0):
        torch.nn.init.normal_(adapter.up)
    encoded = encode(made.tokenizer, ragged(9, pair=False).inputs, 24)
    padded = collate(encoded, np.arange(9), made.model.config.pad_token_id)
    assert packed.supports(made.model)
    assert torch.allclose(learning.logits(made.model, padded), made.model(**padded).logits, atol=1e-6)


def test_dropout_of_a_padded_pass_follows_the_seed_of_torch(with_dropout: Any) -> None:
    made = classifier(with_dropout)
    padded = collate(encode(made.tokenizer, ragged(9, pair=False).inputs, 24), np.arange(9), 0)
    made.model.train()
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(learning.logits(made.model, padded).detach())
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_training_the_used_words_equals_training_the_table(model: Any, weight_decay: float) -> None:
    made = {name: classifier(model) for name in ("used words", "whole table")}
    options = settings(weight_decay=weight_decay)
    learning.train(made["used words"], data(30), **options)
    learning.train(made["whole table"], data(30), **options, after_step=lambda *_: None)
    assert torch.allclose(weights(made["used words"]), weights(made["whole table"]), atol=1e-6)
    assert not torch.allclose(weights(made["used words"]), weights(classifier(model)), atol=1e-3)


def test_fifty_steps_follow_the_plain_loop(model: Any) -> None:
    """Loss trajectory in float32 without dropout: within 1e-3 of transformers and torch alone, over 50 steps."""
    examples, made, plain = ragged(80, pair=False), classifier(model, dropout=0.0), classifier(model, dropout=0.0)
    ours: list[float] = []
    theirs: list[float] = []
    learning.train(
        made, examples, **settings(epochs=5, batch_size=8, learning_rate=1e-3),
        extra_loss=lambda batch, logits, _: ours.append(
            float(torch.nn.functional.cross_entropy(logits.detach(), batch["labels"]))) or logits.sum() * 0,
    )  # fmt: skip
    encoded = encode(plain.tokenizer, examples.inputs, 24)
    rng = np.random.default_rng(3)
    plan = [rows for _ in range(5) for rows in learning.by_length(encoded.lengths, 8, rng)]
    optimiser = torch.optim.AdamW(plain.model.parameters(), weight_decay=0.0)
    for step, rows in enumerate(plan):
        optimiser.param_groups[0]["lr"] = 1e-3 * learning.schedule(step, len(plan), 0.1)
        batch = collate(encoded, rows, plain.model.config.pad_token_id)
        loss = plain.model(**batch, labels=torch.from_numpy(examples.labels[rows])).loss
        theirs.append(float(loss.detach()))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    assert len(plan) == 50
    assert np.allclose(ours, theirs, atol=1e-3)
    assert (made.logits(examples.inputs).argmax(1) == plain.logits(examples.inputs).argmax(1)).all()


def test_dropout_has_the_right_rate_and_scale() -> None:
    x = torch.ones(500, 400)
    out = unpadded.Noise(0)(x, 0.1)
    assert abs(float((out == 0).float().mean()) - 0.1) < 0.003
    assert abs(float(out.mean()) - 1) < 0.005
    assert torch.equal(out, unpadded.Noise(0)(x, 0.1))
    assert not torch.equal(out, unpadded.Noise(1)(x, 0.1))
    assert unpadded.Noise(0)(x, 0.0) is x


def test_anything_unusual_goes_through_the_models_own_pass(like_bert: Any) -> None:
    made, inputs = classifier(like_bert), data(9).inputs
    expected = made.logits(inputs)
    assert packed.supports(made.model)
    calls = []
    hook = made.model.base_model.register_forward_hook(lambda *_: calls.append(1))
    assert not packed.supports(made.model)
    assert np.allclose(made.logits(inputs), expected, atol=1e-6)
    assert calls
    hook.remove()
    assert packed.supports(made.model)
    made.model(torch.tensor([[5, 6, 7]]), output_hidden_states=True)
    assert packed.supports(made.model), "what transformers leaves behind after that does nothing"
    layer = made.model.base_model.encoder.layer[0].output
    layer.dense = torch.nn.Sequential(layer.dense)
    layer.dense.forward = lambda x: layer.dense[0](x) * 2
    assert not packed.supports(made.model)
    assert not np.allclose(made.logits(inputs), expected, atol=1e-6)
