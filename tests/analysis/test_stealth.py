"""Stealth measures: the changes of a text, and parts of a trigger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis import stealth
from bench.conformance.checks import run
from bench.contracts.examples import Inputs
from bench.errors import RequestError
from bench.experiment.result_store import ResultStore
from tests.tiny import byte_level_bpe, tiny_roberta_folder

WORDS = st.lists(st.sampled_from(["a", "b", "c", "cf", "the"]), max_size=8).map(" ".join)


@given(WORDS, WORDS)
def test_all_changes_together_lead_from_one_text_to_the_other(clean: str, triggered: str) -> None:
    changes = stealth.edits(clean, triggered)
    assert stealth.applied(clean, changes) == triggered
    assert stealth.applied(clean, []) == clean


class Counts:
    """Says 1 of a text with at least ``least`` of the words x, y and z."""

    model = tokenizer = None
    max_length = 32

    def __init__(self, least: int) -> None:
        self.least = least

    def logits(self, inputs: Inputs) -> Any:
        hits = [sum(word in {"x", "y", "z"} for word in text.split()) >= self.least for text in inputs.texts]
        return np.array([[not hit, hit] for hit in hits], dtype=np.float32)

    def clone(self) -> Counts:
        return self


def measured(least: int, triggered: tuple[str, ...]) -> stealth.Stealth:
    clean = Inputs(("one two three four", "five six seven eight"))

    def same(texts: Any) -> Any:
        return np.ones((len(texts), 1))

    def lengths(texts: Any) -> Any:
        return np.array([len(text.split()) for text in texts], dtype=float)

    rng = np.random.default_rng(0)
    options: dict[str, Any] = {"encoder": same, "rng": rng, "perplexity": lengths}
    return stealth.measure(clean, Inputs(triggered), classifier=Counts(least), target=1, **options)


def test_measures_of_inserted_words() -> None:
    measures = measured(3, ("one x two y three z four", "x y z five six seven eight"))
    assert measures.changed_words == pytest.approx(75)
    assert measures.perplexity_ratio == pytest.approx(7 / 4)
    assert measures.similarity == pytest.approx(100)
    assert measures.false_triggers == 0, "a part of the words does nothing"
    assert measured(1, ("one x two y three z four", "x y z five six seven eight")).false_triggers == 100


def test_one_word_has_no_part() -> None:
    measures = measured(1, ("one x two three four", "five six y seven eight"))
    assert measures.false_triggers is None
    assert measures.changed_words == pytest.approx(25)


def test_replaced_words_count_once() -> None:
    assert measured(1, ("one two x four", "five six seven y")).changed_words == pytest.approx(25)


def test_ranks() -> None:
    assert stealth.rank("The,") == 1
    assert stealth.rank("movie") < stealth.rank("serendipity") < stealth.rank("qzxv") == stealth.rank("zzqqj")
    assert stealth.rank(".") == 1


def test_perplexity_of_a_uniform_model_is_its_vocabulary(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import GPT2Config, GPT2LMHeadModel

    tiny_roberta_folder(tmp_path)
    size = len(byte_level_bpe()["vocab"])
    config = GPT2Config(vocab_size=size, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=2)
    weights = {
        name: torch.zeros_like(value) for name, value in GPT2LMHeadModel(config).transformer.state_dict().items()
    }
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(tmp_path)
    perplexities = stealth.causal_perplexity(str(tmp_path))(["the film", "a much longer text about nothing"])
    assert perplexities == pytest.approx([size, size], rel=1e-3)


def test_a_survey_measures_the_victims_in_the_store(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = ResultStore(tmp_path)
    plan = run(world, store, task="pair", attack="badsent", defense=["none"])
    monkeypatch.setattr(stealth, "embedded_encoder", lambda: lambda texts: np.ones((len(texts), 1)))
    (row,) = stealth.survey(plan, store)
    assert row["attack"] == "badsent" and row["acc"] is not None and row["clean_asr"] is not None
    assert row["changed_words"] > 10 and row["perplexity_ratio"] is None
    assert stealth.markdown([row]).splitlines()[2].startswith("| badsent | local/pair |")
    with pytest.raises(RequestError, match="no victim"):
        stealth.survey(plan, ResultStore(tmp_path / "empty"))
    assert [record.getMessage() for record in caplog.records] == ["left out, as not in the store: 1 of 1 victim"]


def test_the_encoder_gives_each_text_its_own_unit_vector() -> None:
    encode = stealth.embedded_encoder()
    texts = ["a rather long sentence about a film", "short", "a rather long sentence about a film", "bad"]
    vectors = encode(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5) and (vectors[0] == vectors[2]).all()
    alone = stealth.embedded_encoder()
    for text, vector in zip(texts, vectors, strict=True):
        assert np.allclose(alone([text])[0], vector, atol=1e-5)
